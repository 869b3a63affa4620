"""What an owner does to the model between calls: constants, hooks, dtype and device; seen, or refused in words."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.hooks.hooks import HookRegistry
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
    for value in (1, True, 1.0, "1", None, [1], (1, 1), {"a": 1}, {"a": 2}, {"b": 2}):
        module.switch = value  # type: ignore[assignment]
        seen.append(structure_of(module))
        assert seen[-1] == structure_of(module)
    assert all(one != other for i, one in enumerate(seen) for other in seen[:i])
