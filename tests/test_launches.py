"""Launches of a cached step and sites found, as functions of depth and history: a pass that stops matching is seen."""

from collections.abc import Mapping
from itertools import pairwise

import pytest
import torch
import torch.nn.attention.flex_attention as flex
from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel
from launches import CountCalls, CountFlex
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import fouriercache as fc
from fouriercache.capture import Capture, capture
from fouriercache.cost import cost_of
from fouriercache.cost.counts import cost_of_call
from fouriercache.passes.pipeline import build_steps
from fouriercache.program import Program
from tests.tiny import TIMESTEPS, denoise, tiny_dit

DEPTHS = (1, 2, 4)
ORDERS = (0, 1, 3)
FRAME = 6
"""Launches outside the blocks: the patches cut out in two copies, their projection, norm, projection, unpatching."""


@pytest.fixture(scope="module", params=DEPTHS)
def captured(request: pytest.FixtureRequest) -> tuple[int, Capture]:
    depth: int = request.param
    torch.manual_seed(0)
    model: DiTTransformer2DModel = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        num_layers=depth,
        sample_size=32,
        patch_size=2,
        num_embeds_ada_norm=10,
    )
    model.eval()
    call = {
        "hidden_states": torch.randn(2, 4, 32, 32),
        "timestep": torch.tensor([5, 5]),
        "class_labels": torch.tensor([1, 10]),
    }
    return depth, capture(model, call)


def reuse_programs(found: Capture, site: str, order: int) -> Mapping[str, Program]:
    method = fc.Method("test", site, fc.Interval(2), fc.Taylor(order))
    parts = build_steps(found, method).modes["reuse"]
    return {"context": parts.context, "timed": parts.timed, "moving": parts.moving}


def count_by_running(program: Program) -> int:
    inputs = [torch.ones([2 if not isinstance(n, int) else n for n in value.shape], dtype=value.dtype)
              for value in (node.meta["val"] for node in program.placeholders)]  # fmt: skip
    assert all(isinstance(tensor, Tensor) for tensor in inputs)
    module = program.module()
    with torch.no_grad(), CountCalls() as calls:
        module(*inputs)
    return int(calls.launches)


@pytest.mark.parametrize("order", ORDERS)
def test_stack_sites_launch_the_frame_and_one_update_for_each_kept_step(captured: tuple[int, Capture], order: int):
    _, found = captured
    moving = reuse_programs(found, "stack", order)["moving"]
    assert cost_of(moving).launches == count_by_running(moving) == FRAME + (order + 1)


@pytest.mark.parametrize("order", ORDERS)
def test_branch_sites_launch_one_update_for_each_branch_and_kept_step(captured: tuple[int, Capture], order: int):
    depth, found = captured
    moving = reuse_programs(found, "branch", order)["moving"]
    # and one product of all gates with all coefficients
    assert cost_of(moving).launches == count_by_running(moving) == FRAME + 1 + 2 * depth * (order + 1)


@pytest.mark.parametrize("order", ORDERS)
def test_block_sites_launch_one_update_for_each_block_and_kept_step(captured: tuple[int, Capture], order: int):
    depth, found = captured
    moving = reuse_programs(found, "block", order)["moving"]
    assert cost_of(moving).launches == count_by_running(moving) == FRAME + depth * (order + 1)


@pytest.mark.parametrize("site", ["branch", "block", "stack"])
def test_the_conditioning_of_a_step_grows_with_the_gates_that_are_still_read(captured: tuple[int, Capture], site: str):
    """Branches keep each block's gates: class embedding, timestep MLP, narrowed linear. The rest serves the head."""
    depth, found = captured
    parts = reuse_programs(found, site, order=1)
    launches = {name: count_by_running(parts[name]) for name in ("context", "timed")}
    gated = depth if site == "branch" else 0
    head = {"context": 5, "timed": 12} if gated else {"context": 6, "timed": 16}
    assert launches == {"context": head["context"] + gated, "timed": head["timed"] + 7 * gated}
    calls = {name: [cost_of_call(node) for node in parts[name].calls()] for name in launches}
    assert {name: sum(cost.launches for cost in costs if cost) for name, costs in calls.items()} == launches


@pytest.mark.parametrize("site", ["branch", "block", "stack"])
def test_a_prepared_call_launches_its_graph_and_two_more(site: str):
    """The sum that tells of NaN, and the copy of a small sample by which a change is seen: the same at any depth."""
    fast = fc.optimize(tiny_dit(), fc.FORA(interval=3, site=site), num_steps=len(TIMESTEPS))
    fast.prepare(TIMESTEPS)
    counts: list[int] = []
    calls = CountCalls()

    def count(_: int) -> None:
        counts.append(calls.launches)

    with calls:
        denoise(fast, before_step=count)
    launched = dict(enumerate(b - a for a, b in pairwise([*counts, calls.launches])))
    reused = [step for step in launched if step not in (fast.schedule or ())]
    sampler = 3  # the test's loop makes a timestep's tensor, scales the output and subtracts it
    moving = fast.report.moving["reuse"].launches
    assert [launched[step] for step in reused[1:]] == [moving + 2 + sampler] * (len(reused) - 1)


@pytest.mark.parametrize("site", ["branch", "block", "stack"])
def test_a_prepared_step_reads_no_weight_of_any_block(captured: tuple[int, Capture], site: str):
    _, found = captured
    moving = reuse_programs(found, site, order=1)["moving"]
    read = {str(node.meta["source"]) for node in moving.graph.find_nodes(op="get_attr")}
    assert not any("blocks" in name for name in read)


def test_a_full_step_is_counted_alike_on_the_graph_and_while_it_runs(captured: tuple[int, Capture]):
    _, found = captured
    whole = build_steps(found, fc.FORA(2, site="stack")).modes["compute"].whole
    assert cost_of(whole).launches == count_by_running(whole)


def test_sites_found_grow_with_depth(captured: tuple[int, Capture]):
    depth, found = captured
    sites = build_steps(found, fc.FORA(2, site="stack")).canonical.found
    assert {kind: len(of_kind) for kind, of_kind in sites.items()} == {"branch": 2 * depth, "block": depth, "stack": 1}


def test_flex_attention_is_one_launch_and_counts_as_fused_attention(monkeypatch):
    monkeypatch.setattr(flex, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    query, key = torch.ones(1, 2, 128, 16), torch.ones(1, 2, 256, 16)
    with CountCalls() as calls:
        flex.flex_attention(query, key, key)
    assert calls.targets["flex_attention"] == 1
    assert calls.targets.keys().isdisjoint({"bmm", "matmul", "exp"})  # what it is made of without a kernel
    with FlopCounterMode(display=False) as outside, CountFlex() as inside:
        result = flex.flex_attention(query, key, key) @ key.mT
    assert outside.get_total_flops() == 2 * result.numel() * 16
    assert inside.flops == 2 * 2 * (128 * 256 * 16) * 2  # two products of two heads, two for each multiply-add
