"""What an owner does to the model between calls: constants, hooks, dtype and device; seen, or refused in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers.hooks.hooks import HookRegistry
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor, nn

import fouriercache as fc
from fouriercache.runtime.structure import structure_of
from tests.tiny import METHOD, ROUNDING, TIMESTEPS, BruteForce, denoise, distance, is_same, noise, tiny_dit


class Adapter(nn.Module):
    """A linear layer with a low-rank adapter beside it that is not fused, as peft puts one."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, 2, bias=False)
        self.up = nn.Linear(2, base.out_features, bias=False)
        self.up.weight.data.mul_(20)
        self.scaling = {"default": 1.0}
        self.is_disabled = False

    def forward(self, x: Tensor) -> Any:
        if self.is_disabled:
            return self.base(x)
        return self.base(x) + self.up(self.down(x)) * self.scaling["default"]


class Noisy(nn.Module):
    """A DiT behind a dropout that eval mode turns off."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout, self.dit = nn.Dropout(0.5), tiny_dit()

    def forward(self, hidden_states: Tensor, timestep: Tensor, class_labels: Tensor) -> Any:
        return self.dit(self.dropout(hidden_states), timestep, class_labels)


class Scaling:
    """An object that is no module, as attention processors are."""

    def __init__(self) -> None:
        self.scale, self.switches = 1.0, {"on"}

    def __call__(self, x: Tensor) -> Tensor:
        return x * self.scale if "on" in self.switches else x * 2


class Scaled(nn.Module):
    """A DiT behind a table that is no registered weight, a scaling object, and a function."""

    def __init__(self) -> None:
        super().__init__()
        self.dit, self.table, self.scaling, self.switches = tiny_dit(), torch.ones(8), Scaling(), {"on"}
        self.function = torch.sin

    def forward(self, hidden_states: Tensor, timestep: Tensor, class_labels: Tensor) -> Any:
        x = self.scaling(self.function(hidden_states * self.table))
        return self.dit(x if "on" in self.switches else x * 3, timestep, class_labels)


class ScaledAttention(AttnProcessor2_0):
    """A custom attention processor with a scale of its own."""

    k = 1.0
    _attention_backend = None  # diffusers sets it in the object

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs) * self.k


@pytest.fixture
def model():
    return tiny_dit(seed=3)


@pytest.fixture
def fast(model):
    return fc.optimize(model, METHOD, num_steps=len(TIMESTEPS))


def test_a_scale_of_an_adapter_changed_between_trajectories_takes_effect():
    model = tiny_dit()
    attention = model.transformer_blocks[0].attn1
    attention.to_v = Adapter(attention.to_v).eval()
    fast = fc.optimize(model, METHOD, num_steps=len(TIMESTEPS))
    unchanged = denoise(fast)
    attention.to_v.scaling["default"] = 5.0
    scaled = denoise(fast)
    assert distance(scaled, denoise(BruteForce(model))) < ROUNDING
    assert distance(scaled, unchanged) > 100 * ROUNDING
    attention.to_v.is_disabled = True
    assert distance(denoise(fast), denoise(BruteForce(model))) < ROUNDING


@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model, "table", torch.full((8,), 5.0)),
        lambda model: model.table.mul_(5),
        lambda model: setattr(model.scaling, "scale", 5.0),
        lambda model: model.scaling.switches.clear(),
        lambda model: model.switches.clear(),
        lambda model: setattr(model, "function", torch.cos),
    ],
    ids=["tensor", "tensor in place", "number of an object", "set of an object", "set", "function"],
)
def test_what_is_no_weight_and_no_module_takes_effect_with_the_next_trajectory(change):
    model = Scaled().eval()
    fast = fc.optimize(model, fc.FORA(interval=1), num_steps=len(TIMESTEPS))
    unchanged = denoise(fast)
    change(model)
    changed = denoise(fast)
    assert is_same(changed, denoise(model))
    assert distance(changed, unchanged) > 100 * ROUNDING


def test_a_number_of_an_attention_processor_takes_effect_with_the_next_trajectory(fast, model):
    processor = ScaledAttention()
    model.transformer_blocks[0].attn1.set_processor(processor)
    unchanged = denoise(fast)
    processor.k = 5.0
    changed = denoise(fast)
    assert distance(changed, denoise(BruteForce(model))) < ROUNDING
    assert distance(changed, unchanged) > 100 * ROUNDING


def test_another_attention_backend_is_captured_with_the_next_trajectory(fast, model):
    model.transformer_blocks[0].attn1.set_processor(ScaledAttention())
    denoise(fast)
    captured = fast.captured[0]
    model.set_attention_backend("native")
    denoise(fast)
    assert fast.captured[0] is not captured


def test_a_model_that_is_left_alone_is_not_captured_again(fast):
    denoise(fast)
    captured = fast.program("reuse")
    denoise(fast)
    assert fast.program("reuse") is captured


def test_a_model_that_diffusers_has_looked_at_is_not_captured_again(fast):
    """Its `cache_context`, in which the original was run for comparison, leaves an empty list of hooks."""
    denoise(fast)
    captured = fast.program("reuse")
    HookRegistry.check_if_exists_or_initialize(fast.model)
    denoise(fast)
    assert fast.program("reuse") is captured


def test_a_dropout_switched_on_later_is_refused():
    """Its graph would be random."""
    model = Noisy().eval()
    fast = fc.optimize(model, METHOD, num_steps=len(TIMESTEPS))
    denoise(fast)
    model.dropout.train()
    with pytest.raises(fc.CaptureError, match=r"(?s)training mode in part: dropout.*model.eval\(\)"):
        denoise(fast)


def test_a_hook_set_in_mid_trajectory_is_refused_and_counts_in_the_next(fast, model):
    denoise(fast, timesteps=TIMESTEPS[:4])
    hook = model.transformer_blocks[1].ff.register_forward_hook(lambda module, args, output: output * 3)
    with pytest.raises(fc.CaptureError, match=r"(?s)changed in mid-trajectory.*a forward hook.*reset\(\)"):
        denoise(fast, timesteps=TIMESTEPS[4:])
    fast.reset()
    assert distance(denoise(fast), denoise(BruteForce(model))) < ROUNDING
    hook.remove()
    assert distance(denoise(fast), denoise(BruteForce(model))) < ROUNDING


def test_hooks_of_other_modules_are_nothing_to_a_trajectory(fast, model):
    wanted = denoise(fast)
    other = nn.Linear(2, 2)

    def set_hook(_: int) -> None:
        other.register_forward_hook(lambda *_: None)

    assert is_same(denoise(fast, before_step=set_hook), wanted)


@pytest.mark.parametrize("change", [torch.bfloat16, "meta"], ids=["dtype", "device"])
def test_weights_that_change_their_form_in_mid_trajectory_are_refused(fast, change):
    denoise(fast, timesteps=TIMESTEPS[:3])
    fast.to(change)
    with pytest.raises(
        fc.TrajectoryError, match=r"(?s)dtype or device in mid-trajectory.*torch.float32 on cpu to .*reset"
    ):
        denoise(fast, timesteps=TIMESTEPS[3:])


def test_weights_that_change_their_dtype_between_trajectories_are_captured_again(fast):
    denoise(fast)
    fast.to(torch.bfloat16)
    found = denoise(fast, x=noise().bfloat16())
    assert found[0].dtype == torch.bfloat16
    assert is_same(found[:2], denoise(fast.model, x=noise().bfloat16())[:2])


def test_autocast_has_captures_of_its_own(fast, model):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = denoise(fast)
        assert is_same(inside[:2], denoise(model)[:2])
    outside = denoise(fast)
    assert outside[0].dtype == torch.float32
    assert distance(outside, denoise(BruteForce(model))) < ROUNDING
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert is_same(denoise(fast), inside)


def test_autocast_that_begins_in_mid_trajectory_is_refused(fast):
    denoise(fast, timesteps=TIMESTEPS[:3])
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        pytest.raises(fc.TrajectoryError, match=r"(?s)in mid-trajectory.*autocast.*bfloat16"),
    ):
        denoise(fast, timesteps=TIMESTEPS[3:])


def test_what_is_compared_tells_constants_apart_that_python_calls_equal():
    module = nn.Linear(2, 2)
    seen = []
    tensor, other = torch.ones(2), Scaling()
    other.scale = 2.0
    plain = (1, True, 1.0, "1", None, [1], (1, 1), {"a": 1}, {"a": 2}, {"b": 2}, {1}, {True}, frozenset("ab"))
    tensors = (tensor, torch.ones(2), [tensor, tensor], {tensor}, np.ones(2))
    for value in (*plain, *tensors, Scaling(), other, [other], torch, torch.sin, Scaling.__call__, Scaling):
        module.switch = value  # type: ignore[assignment]
        seen.append(structure_of(module))
        assert seen[-1] == structure_of(module)
    assert all(one != other for i, one in enumerate(seen) for other in seen[:i])


def test_objects_that_hold_one_another_are_looked_at_once():
    module, one, other = nn.Linear(2, 2), Scaling(), Scaling()
    one.other, other.other, one.module, one.kept = other, one, module, {"inner": 1.0}  # type: ignore[attr-defined]
    module.scaling = one  # type: ignore[assignment]
    before = structure_of(module)
    assert structure_of(module) == before
    one.kept["inner"] = 2.0  # type: ignore[attr-defined]
    assert structure_of(module) != before
