"""Facts of a capture in reports, programs, goldens and exports are those of the model as it is now, or are refused."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from rich.console import Console, RenderableType
from torch import Tensor, nn

import fouriercache as fc
from fouriercache.report.console import draw_cost, draw_facts
from fouriercache.report.facts import collect_facts
from tests.tiny import (
    METHOD,
    ROUNDING,
    TIMESTEPS,
    BruteForce,
    denoise,
    distance,
    labels,
    noise,
    step_inputs,
    tiny_dit,
)


@pytest.fixture
def model():
    return tiny_dit(seed=3)


@pytest.fixture
def fast(model):
    return fc.optimize(model, METHOD, num_steps=len(TIMESTEPS))


def test_facts_of_a_capture_are_refused_once_the_model_has_changed_until_it_is_captured_again(fast, model, tmp_path):
    denoise(fast)
    golden = tmp_path / "golden.txt"
    fc.testing.assert_graph_matches(fast, golden, update=True)
    model.transformer_blocks[0].ff = nn.Sequential(nn.Linear(16, 16), nn.ReLU())
    asked = (
        lambda: fast.report,
        lambda: fast.program("reuse"),
        lambda: fast.captured,
        lambda: fc.testing.assert_graph_matches(fast, golden),
        lambda: fc.export(fast, tmp_path / "bundle"),
    )
    for ask in asked:
        with pytest.raises(fc.NotCapturedError, match=r"(?s)DiT.* has changed since it was captured.*Call fast once"):
            ask()
    assert not hasattr(fast, "report")
    assert not (tmp_path / "bundle").exists()
    denoise(fast)
    assert "relu" in fast.program("compute").text()
    with pytest.raises(AssertionError, match="relu"):
        fc.testing.assert_graph_matches(fast, golden)


def test_facts_of_a_capture_are_those_of_eval_mode(fast, model, tmp_path):
    denoise(fast)
    captured = fast.program("reuse")
    model.train()
    for ask in (lambda: fast.report, lambda: fc.export(fast, tmp_path / "bundle")):
        with pytest.raises(fc.NotCapturedError, match=r"(?s)training mode.*fast.eval\(\)"):
            ask()
    model.eval()
    assert fast.program("reuse") is captured


def test_facts_of_a_capture_stay_where_weights_are_moved_to(fast):
    """As a pipeline moves them that offloads; their dtype is another matter."""
    denoise(fast)
    captured = fast.captured
    fast.to("meta")
    assert fast.captured == captured
    fast.to(torch.bfloat16)
    with pytest.raises(fc.NotCapturedError, match="has changed"):
        fast.captured  # noqa: B018  # reading it is the test


def test_a_capture_of_a_changed_model_drops_those_of_the_old_one(fast, model):
    for size in (8, 4):
        fast.capture(step_inputs(noise(size=size), 900, labels()))
    assert len(fast.captured) == 2
    model.transformer_blocks[0].attn1.scale *= 2
    fast.capture(step_inputs(noise(size=4), 900, labels()))
    assert len(fast.captured) == 1
    assert distance(denoise(fast), denoise(BruteForce(model))) < ROUNDING


@pytest.mark.parametrize(
    ("method", "names"),
    [
        (fc.FORA(interval=2), "canonical, cond, compute, reuse."),
        (fc.TeaCache(threshold=0.1), "canonical, cond, compute, reuse, probe."),
        (fc.ToCa(interval=2), "canonical, compute, reuse, partial."),
    ],
)
def test_a_program_that_is_not_there_is_refused_with_those_that_are(method, names):
    fast = fc.optimize(tiny_dit(), method, num_steps=8, example_inputs=step_inputs(noise(), 900, labels()))
    with pytest.raises(fc.PreconditionError, match=f"There are: {names}$"):
        fast.program("no such program")
    for name in names.rstrip(".").split(", "):
        assert fast.program(name).text()


def test_a_report_prints_as_the_tables_of_the_commands_and_its_repr_is_a_line(fast):
    fast.capture(step_inputs(noise(), 900, labels()))
    text = str(fast.report)
    for words in (
        f"{METHOD.name}, branch sites",
        "attention  transformer_blocks.0 to 1  [s0, 16, 16]  yes       2",
        "Token grid: 1 x 4 x 4, first token at 0",
        "Cost of one call, batch 2",
        "prepared / compute",
    ):
        assert words in text
    assert len(text) < 2000
    assert max(map(len, text.splitlines())) < 100
    assert shown(draw_facts(collect_facts(fast, METHOD.name, "branch"))) == text.splitlines()
    assert repr(fast.report) == f"Report({METHOD.name}: 4 branch sites, 1 refused, modes compute, reuse)"


def test_a_cost_estimate_prints_as_the_table_of_the_command(fast):
    fast.capture(step_inputs(noise(), 900, labels()))
    cost = fast.report.cost("h200")
    lines = str(cost).splitlines()
    assert shown(draw_cost(cost)) == lines
    assert lines[0] == "Predicted for H200 SXM, batch 2"
    assert lines[-1].startswith("Trajectory: 4 of 8 steps computed, ")


def test_the_modules_repr_says_how_it_was_optimised(fast):
    first = repr(fast).splitlines()[1]
    assert first == f"  model=DiTTransformer2DModel, method={METHOD!r}, num_steps=8, backend='eager'"


def shown(drawn: RenderableType) -> list[str]:
    """The lines that a command prints."""
    console = Console(file=io.StringIO(), width=200)
    console.print(drawn)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


class Remembering(nn.Module):
    """A DiT whose forward leaves a number behind: how many samples there were."""

    def __init__(self) -> None:
        super().__init__()
        self.dit, self.seen = tiny_dit(), 0

    def forward(self, hidden_states: Tensor, timestep: Tensor, class_labels: Tensor) -> Any:
        self.seen = len(hidden_states) if not torch.compiler.is_exporting() else self.seen
        return self.dit(hidden_states, timestep, class_labels)


def test_what_a_run_of_the_model_for_an_export_leaves_behind_is_no_change_by_its_owner():
    fast = fc.optimize(Remembering().eval(), METHOD, num_steps=len(TIMESTEPS))
    denoise(fast)
    (captured,) = fast.captured
    assert fast.model.seen == 2
    assert fast.least_batch(captured) == 1
    assert fast.model.seen == 1
    assert fast.captured == (captured,)
