"""What an optimised model refuses rather than get silently wrong: aliases, writes, other caches, slips."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from accelerate import cpu_offload  # type: ignore[import-untyped]
from diffusers.hooks.group_offloading import apply_group_offloading
from diffusers.hooks.hooks import HookRegistry
from diffusers.hooks.layerwise_casting import apply_layerwise_casting
from diffusers.hooks.taylorseer_cache import TaylorSeerCacheConfig, apply_taylorseer_cache
from torch import Tensor, nn

import fouriercache as fc
from tests.test_hoisted_batches import MixesRows
from tests.tiny import METHOD, TIMESTEPS, denoise, distance, is_same, labels, noise, step_inputs, tiny_dit

HALF = (torch.bfloat16, torch.float16)


class Wraps(nn.Module):
    """A tiny DiT, and what a user might have put around it."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.model = tiny_dit()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, hidden_states: Tensor, timestep: Tensor, guidance: Tensor) -> Tensor:
        sample: Tensor = self.model(hidden_states, timestep=timestep, class_labels=labels(len(timestep))).sample
        return sample * (1 + guidance[:, None, None, None] / 1000)


class Counts(Wraps):
    def forward(self, hidden_states: Tensor, timestep: Tensor, guidance: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(hidden_states, timestep, guidance)


class Overwrites(Wraps):
    def forward(self, hidden_states: Tensor, timestep: Tensor, guidance: Tensor) -> Tensor:
        hidden_states.mul_(0.5)
        return super().forward(hidden_states, timestep, guidance)


class Learns(Wraps):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, hidden_states: Tensor, timestep: Tensor, guidance: Tensor) -> Tensor:
        with torch.no_grad():
            self.scale.add_(1.0)
        return self.scale * super().forward(hidden_states, timestep, guidance)


class Noisy(Wraps):
    def forward(self, hidden_states: Tensor, timestep: Tensor, guidance: Tensor) -> Tensor:
        return super().forward(hidden_states, timestep, guidance) + 0.1 * torch.randn_like(hidden_states)


def call(value: float = 900.0, guidance: float | None = None, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """One call; without `guidance` one tensor stands for it and for the timestep."""
    timestep = torch.full((2,), value)
    scale = timestep if guidance is None else torch.full((2,), guidance)
    return {"hidden_states": noise().to(dtype), "timestep": timestep, "guidance": scale}


@torch.no_grad()
def test_one_tensor_given_twice_is_two_inputs():
    model = Wraps().eval()
    fast = fc.optimize(model, METHOD, num_steps=8)
    fast(**call())
    fast.reset()
    assert torch.equal(fast(**call(guidance=5.0)), model(**call(guidance=5.0)))


@pytest.mark.parametrize(
    ("kind", "what"),
    [(Counts, "buffer calls"), (Learns, "parameter scale"), (Overwrites, "input hidden_states")],
)
def test_a_model_that_writes_into_what_it_is_given_is_refused(kind, what):
    fast = fc.optimize(kind().eval(), METHOD, num_steps=8)
    with pytest.raises(fc.CaptureError, match=rf"(?s){kind.__name__} writes into .*where: {what}"):
        fast(**call(guidance=5.0))


@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
def test_a_graph_that_computes_something_else_is_refused_in_every_dtype(dtype):
    fast = fc.optimize(Noisy().to(dtype).eval(), METHOD, num_steps=8)
    with pytest.raises(fc.CaptureError, match="does not compute what the model computes"):
        fast(**call(guidance=5.0, dtype=dtype))


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("mixes", [False, True])
@torch.no_grad()
def test_rows_that_depend_on_each_other_are_seen_in_half_precision(dtype, mixes):
    model = MixesRows(mixes).to(dtype)
    fast = fc.optimize(model, METHOD, num_steps=len(TIMESTEPS))

    def run(session: Any) -> list[Tensor]:
        x, outputs = noise().to(dtype), []
        for value in TIMESTEPS:
            outputs.append(session(hidden_states=x, timestep=torch.full((2,), value)))
            x = x - outputs[-1] / 8
        return outputs

    session = fast.new_session()
    session.prepare(TIMESTEPS)
    assert distance(run(session), run(fast.new_session())) < 8 * torch.finfo(dtype).eps


def test_a_model_that_diffusers_caches_is_refused():
    model = tiny_dit()
    fast = fc.optimize(model, METHOD, num_steps=8)
    denoise(fast)
    apply_taylorseer_cache(model, TaylorSeerCacheConfig(cache_interval=2, max_order=1, cache_identifiers=["^.*attn1$"]))
    with pytest.raises(fc.CaptureError, match=r"(?s)cached already, by diffusers' hook .*where: .*remove the hook"):
        fc.optimize(model, METHOD, num_steps=8)
    with pytest.raises(fc.CaptureError, match="cached already"):
        denoise(fast)
    other = tiny_dit()
    other._is_cached = True  # so cache-dit marks a model
    with pytest.raises(fc.CaptureError, match="cached already, by cache-dit"):
        fc.optimize(other, METHOD)
    for module in model.modules():
        HookRegistry.check_if_exists_or_initialize(module).remove_hook("taylorseer_cache", recurse=False)
    denoise(fast)


def test_training_mode_in_mid_trajectory_is_refused():
    model = tiny_dit()
    fast = fc.optimize(model, METHOD, num_steps=8)

    def train(step: int) -> None:
        if step == 3:
            model.train()

    with pytest.raises(fc.CaptureError, match=r"in training mode.*\n.*eval\(\)"):
        denoise(fast, before_step=train)


@pytest.mark.parametrize("shares", [False, True], ids=["through .data", "through NumPy"])
def test_labels_overwritten_without_a_trace_are_seen(shares):
    fast = fc.optimize(tiny_dit(), METHOD, num_steps=8)
    numbers = np.array([1, 4])
    classes = torch.from_numpy(numbers) if shares else labels()

    def overwrite(step: int) -> None:
        if step == 2 and shares:
            numbers[:] = 7
        elif step == 2:
            classes.data.fill_(7)

    with pytest.raises(fc.TrajectoryError, match="class_labels changed in mid-trajectory"):
        denoise(fast, classes=classes, before_step=overwrite)


def test_an_offloaded_model_says_that_it_is_offloaded():
    fast = fc.optimize(tiny_dit(), METHOD, num_steps=8)
    model = cpu_offload(fast.model, execution_device=torch.device("cpu"))
    for use in (lambda: denoise(fast), lambda: fc.optimize(model, METHOD)):
        with pytest.raises(fc.CaptureError, match=r"(?s)is offloaded by accelerate.*\n.*pipe\.to\(device"):
            use()


def offload_in_groups(model: Any) -> None:
    apply_group_offloading(model, torch.device("cpu"), torch.device("cpu"), offload_type="leaf_level")


def cast_layer_by_layer(model: Any) -> None:
    apply_layerwise_casting(model, torch.float8_e4m3fn, torch.float32)


@pytest.mark.parametrize(
    ("hook", "what"),
    [(offload_in_groups, "offloaded by diffusers"), (cast_layer_by_layer, "cast layer by layer by diffusers")],
)
def test_diffusers_hooks_that_fetch_weights_are_refused_before_and_after(hook, what):
    fast = fc.optimize(tiny_dit(), METHOD, num_steps=8)
    hook(fast.model)
    for use in (lambda: denoise(fast), lambda: fc.optimize(fast.model, METHOD)):
        with pytest.raises(fc.CaptureError, match=rf"(?s){what}: its weights are fetched .*where: .*remove_all_hooks"):
            use()


def test_a_grid_that_contradicts_the_graph_is_refused():
    fast = fc.optimize(tiny_dit(), METHOD, num_steps=8, grid=fc.TokenGrid(1, 2, 8))
    with pytest.raises(fc.UnsupportedModelError, match=r"1 x 2 x 8 contradicts .* makes\s+1 x 4 x 4 tokens"):
        denoise(fast)
    assert len(denoise(fc.optimize(tiny_dit(), METHOD, num_steps=8, grid=fc.TokenGrid(1, 4, 4)))) == len(TIMESTEPS)


@pytest.mark.parametrize("given", [["900", "800"], [True, False], {900: 1, 800: 2}])
def test_prepare_refuses_what_only_looks_like_numbers(given):
    fast = fc.optimize(tiny_dit(), METHOD)
    with pytest.raises(fc.TrajectoryError, match=r"prepare\(\) needs the timesteps of a trajectory"):
        fast.prepare(given)


def test_a_pass_needs_a_name():
    fast = fc.optimize(tiny_dit(), METHOD)
    with pytest.raises(fc.TrajectoryError, match="cache_context takes a name, got 0"), fast.cache_context(0):  # type: ignore[arg-type]
        denoise(fast)


def test_arguments_of_the_wrong_kind_are_refused():
    wrong: Any = {}
    with pytest.raises(fc.CalibrationError, match="calibration is a dict"):
        fc.optimize(tiny_dit(), METHOD, calibration=wrong)
    wrong = "no"
    with pytest.raises(fc.MethodError, match="check_finite is 'no', not True or False"):
        fc.optimize(tiny_dit(), METHOD, check_finite=wrong)
    fast = fc.optimize(tiny_dit(), METHOD, sample_name="timestep")
    with pytest.raises(fc.CaptureError, match="no sample input: no tensor called 'timestep' with two or more"):
        fast(**step_inputs(noise(), 900, labels()))
    assert is_same(denoise(fc.optimize(tiny_dit(), METHOD)), denoise(fc.optimize(tiny_dit(), METHOD)))
