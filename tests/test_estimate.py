"""What `fast.report.cost` predicts of trajectories, against the same trajectories while they run."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from launches import CountCalls
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

import fouriercache as fc
from fouriercache.capture import Capture, capture
from fouriercache.cost import DEVICES, Sizes, cost_of_call, peak_bytes, work_of
from fouriercache.errors import MethodError
from fouriercache.passes.pipeline import build_steps
from fouriercache.program import Program
from fouriercache.testing import trace
from tests import zoo
from tests.tiny import TIMESTEPS, denoise, labels, noise, step_inputs, tiny_dit

STEPS = len(TIMESTEPS)
METHODS = {
    "FORA": fc.FORA(interval=3),
    "TaylorSeer": fc.TaylorSeer(interval=3, order=2),
    "stack": fc.TaylorSeer(interval=3, order=1, site="stack"),
    "ToCa": fc.ToCa(interval=3, ratio=0.3),
    "a schedule for each site": fc.FORA(schedule=fc.PerSite((2, 3, 2, 4))),
}
ONE = fc.Device("one", {"float32": 1.0}, 1.0, launch=1.0, fused_norms=False)
"""A second for each FLOP, byte and launch."""


@cache
def optimized(method: fc.Method, batch: int = 2) -> Any:
    """The tiny DiT, captured once for all tests, at the beginning of a trajectory."""
    call = step_inputs(noise(batch), TIMESTEPS[0], labels(batch))
    fast = fc.optimize(tiny_dit(), method, num_steps=STEPS)
    fast._build = lambda *_: build_steps(captured(batch), method)
    fast.capture(call)
    return fast


@cache
def captured(batch: int) -> Capture:
    return capture(tiny_dit(), step_inputs(noise(batch), TIMESTEPS[0], labels(batch)))


def count_flops(fast: Any) -> int:
    # torch counts no fused attention on a CPU; as products of matrices it does
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        denoise(fast)
    return int(counter.get_total_flops())


@pytest.mark.parametrize("name", METHODS)
def test_flops_of_a_trajectory_are_those_that_torch_counts_while_it_runs(name: str):
    fast = optimized(METHODS[name])
    denoise(fast)  # what is built at the first call of a kind is traced, and the counter would count that
    found = fast.report.cost("h200").trajectory
    assert found.cached.flops == count_flops(fast)
    assert found.computed == fast.session.computed_steps[0]


def test_flops_of_a_prepared_trajectory_are_those_that_torch_counts_while_it_runs():
    fast = optimized(METHODS["TaylorSeer"])
    fast.prepare(TIMESTEPS)
    denoise(fast)  # the first batch of a kind is compared with a step that runs alone
    assert fast.report.cost("h200", prepared=True).trajectory.cached.flops == count_flops(fast)


def test_flops_of_the_original_are_those_that_torch_counts_of_the_model():
    fast = optimized(METHODS["FORA"])
    assert fast.report.cost("h200").trajectory.original.flops == count_flops(fast.model)


def test_an_adaptive_trajectory_is_predicted_from_the_steps_that_a_run_computed():
    fast = optimized(fc.TeaCache(threshold=0.3))
    assert fast.report.cost("h200").trajectory is None
    measured = count_flops(fast)
    computed = fast.session.computed_steps[0]
    assert 1 < len(computed) < STEPS
    found = fast.report.cost("h200", computed=computed).trajectory
    assert found.computed == computed
    assert found.cached.flops == measured


def test_a_step_predicts_launches_and_bytes_that_a_dispatch_mode_sees_while_it_runs():
    fast = optimized(METHODS["TaylorSeer"])
    program = fast.program("compute")
    module = program.module()
    values = [torch.ones([2 if not isinstance(n, int) else n for n in value.shape], dtype=value.dtype)
              for value in (node.meta["val"] for node in program.placeholders)]  # fmt: skip
    with torch.no_grad(), CountCalls() as calls:
        module(*values)
    work = work_of([program], ONE)
    assert work.launches == calls.launches
    assert work.moved == calls.moved


@pytest.mark.parametrize("method", ["FORA", "TaylorSeer", "stack", "ToCa"])
def test_kept_and_hoisted_bytes_are_those_that_a_run_holds(method: str):
    fast = optimized(METHODS[method])
    fast.reset()
    denoise(fast)
    cost = fast.report.cost("h200")
    assert cost.cache == fast.cache_bytes
    copies = fast.held_bytes - cost.cache - cost.hoisted  # of latents and conditioning, to see a change by
    assert 0 <= copies < 4096


def test_peak_memory_of_a_step_is_what_the_allocator_gave():
    fast = fc.optimize(
        tiny_dit(size=32, layers=4),
        METHODS["TaylorSeer"],
        num_steps=STEPS,
        example_inputs=step_inputs(noise(2, 32), 900, labels(2)),
    )
    program = fast.program("compute")
    assert peak_bytes(program) == pytest.approx(allocated(program), rel=0.1)


def allocated(program: Program) -> int:
    """Bytes that are allocated at most while a program runs, its inputs among them."""
    module = program.module()
    values = [torch.ones([2 if not isinstance(n, int) else n for n in value.shape], dtype=value.dtype)
              for value in (node.meta["val"] for node in program.placeholders)]  # fmt: skip
    held = sum(value.numel() * value.element_size() for value in values)
    with torch.no_grad():
        module(*values)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
            module(*values)
    live = most = 0
    assert found.profiler is not None
    assert found.profiler.kineto_results is not None
    for event in found.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            most = max(most, live)
    return held + most


def test_values_live_from_their_call_to_their_last_use_and_views_keep_them():
    x = torch.zeros(256)
    kib = 1024
    assert peak_bytes(trace(lambda x: x.sin().cos().tan(), x)) == 3 * kib  # the input, one that dies, one that is new
    assert peak_bytes(trace(lambda x: (x.sin(), x.cos(), x.tan()), x)) == 4 * kib
    assert peak_bytes(trace(lambda x: (x.sin().view(2, 128).t(), x.cos().tan()), x)) == 4 * kib


def test_the_runtimes_own_time_counts_for_every_step_of_an_optimised_module_alone():
    report = optimized(METHODS["FORA"]).report
    free, slow = report.cost(ONE), report.cost(replace(ONE, step=7.0))
    assert slow.trajectory.cached.seconds == pytest.approx(free.trajectory.cached.seconds + 7 * STEPS)
    assert slow.trajectory.original.seconds == free.trajectory.original.seconds
    assert slow.modes["reuse"].seconds == pytest.approx(free.modes["reuse"].seconds + 7)


def test_what_is_expanded_or_gathered_counts_for_what_is_read():
    table, index, row = torch.zeros(1000, 4), torch.tensor([3, 5]), torch.zeros(1, 4)
    (gathered,) = trace(lambda t, i: torch.embedding(t, i), table, index).calls()
    cost = cost_of_call(gathered)
    assert cost is not None
    assert (cost.read, cost.written) == (2 * 8 + 2 * 4 * 4, 2 * 4 * 4)
    *_, added = trace(lambda t, r: t + r.expand(1000, 4), table, row).calls()
    cost = cost_of_call(added)
    assert cost is not None
    assert cost.read == 1000 * 4 * 4 + 4 * 4


class _Attention(torch.nn.Module):
    """Heads lie side by side in the query, or one behind the other where tokens are joined behind the heads."""

    def __init__(self, *, is_joined: bool) -> None:
        super().__init__()
        self.is_joined = is_joined

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        heads = tokens.unflatten(2, (2, 8)).transpose(1, 2)
        heads = torch.cat([heads, heads], 2) if self.is_joined else heads
        mixed = torch.nn.functional.scaled_dot_product_attention(heads, heads, heads)
        return mixed.transpose(1, 2).reshape(tokens.shape[0], -1, 16)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("is_joined", [False, True])
def test_heads_are_joined_by_a_copy_where_they_lie_apart_wherever_it_is_traced(is_joined: bool, device: str):
    model, tokens = _Attention(is_joined=is_joined), torch.zeros(2, 4, 16)
    with CountCalls() as calls:
        model(tokens)
    assert work_of([trace(model, tokens.to(device))], ONE).launches == calls.launches


def test_another_batch_costs_what_a_capture_at_that_batch_costs():
    small, large = optimized(METHODS["ToCa"], 2), optimized(METHODS["ToCa"], 6)
    assert small.report.cost("h200", batch=6).as_dict() == large.report.cost("h200").as_dict()
    assert (
        small.report.cost("h200", batch=6).trajectory.cached.flops > small.report.cost("h200").trajectory.cached.flops
    )


def test_the_batch_is_that_of_the_captured_call_when_none_is_given():
    report = optimized(METHODS["FORA"], 1).report
    assert report.batch == report.cost("h200").batch == 1
    assert report.cost("h200").as_dict() == report.cost("h200", batch=1).as_dict()
    assert report.cost("h200").modes["compute"].flops < report.cost("h200", batch=2).modes["compute"].flops


def test_passes_have_features_of_their_own():
    report = optimized(METHODS["FORA"]).report
    one, two = report.cost("h200"), report.cost("h200", passes=2)
    assert (two.cache, two.weights) == (2 * one.cache, one.weights)
    assert two.trajectory.cached.flops == 2 * one.trajectory.cached.flops
    assert two.trajectory.speedup == pytest.approx(one.trajectory.speedup)


def test_full_size_models_are_predicted_without_weights():
    from fouriercache.models.examples import build_example

    example = build_example("dit-xl-2@2")
    fast = fc.optimize(example.model, fc.FORA(3), num_steps=50, example_inputs=example.inputs)
    cost = fast.report.cost("rtx4090")
    assert cost.fits
    assert cost.trajectory is not None
    assert 2.5 < cost.trajectory.flops_speedup < 50 / 18
    assert cost.modes["original"].seconds > cost.modes["reuse"].seconds > 0


@pytest.mark.parametrize("name", DEVICES)
def test_every_data_sheet_says_where_it_is_from_and_has_the_dtypes_of_the_field(name: str):
    device = DEVICES[name]
    assert "NVIDIA" in device.source
    peaks = [device.peak(dtype) for dtype in (torch.float32, torch.bfloat16, torch.float8_e4m3fn)]
    assert peaks == sorted(peaks)
    assert device.peak(torch.float16) == device.peak(torch.bfloat16)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda report: report.cost("h20"), "Did you mean 'h200'"),
        (lambda report: report.cost("cpu"), "fc.measure_cpu"),
        (lambda report: report.cost(7), "no data sheet of 7"),
        (lambda report: report.cost(fc.Device("mine", {"bfloat16": 1e12}, 1e9)), "no peak for float32"),
        (lambda report: report.cost(computed=(1, 2)), "step 0"),
        (lambda report: report.cost(computed=(0, STEPS)), "table"),
        (lambda report: report.cost(passes=0), "passes"),
        (lambda report: report.cost(batch=0), "batch"),
        (lambda report: report.cost(prepared="x"), "prepared to be True or False, got 'x'"),
        (lambda report: report.cost(prepared=1), "prepared to be True or False, got 1"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(ask: Any, message: str):
    with pytest.raises(MethodError, match=message):
        ask(optimized(METHODS["FORA"]).report)


@pytest.mark.parametrize(
    "wrong",
    [
        {"peaks": {}},
        {"peaks": {"float33": 1.0}},
        {"peaks": {"float32": 0.0}},
        {"bandwidth": -1.0},
        {"bandwidth": "fast"},
        {"launch": -1e-6},
        {"caches": ((0, 1.0),)},
        {"functions": {"sofmax": 1e9}},
    ],
)
def test_a_device_that_makes_no_sense_is_refused(wrong: dict[str, Any]):
    with pytest.raises(MethodError):
        replace(ONE, **wrong)


def test_this_processor_is_measured_when_asked_for():
    device = fc.measure_cpu(seconds=0.01)
    assert device.peak(torch.float32) > 1e8
    assert device.bandwidth > 1e7
    assert all(0 < seconds < 1e-2 for seconds in (device.launch, device.view, device.module))
    assert device.functions["gelu_tanh"] < device.functions["rsqrt"]  # a tangent takes longer than a root
    assert not device.overlaps
    assert "measure_cpu" in device.source


def test_sizes_are_those_of_the_capture_but_for_those_that_are_given():
    program = zoo.captured("dit", 1)
    (sample,) = program.inputs_of("sample")
    size = sample.meta["val"].shape[0]
    assert not isinstance(size, int)
    assert Sizes({}, program)(size) == 2
    assert Sizes({str(size.node.expr): 5}, program)(size * 3 + 1) == 16
    assert Sizes({}, program)(7) == 7
