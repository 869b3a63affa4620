"""What a model keeps from one forward to the next: found by watching it, and not predicted to be made again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from launches import CountCalls
from torch import Tensor, nn

import fouriercache as fc
from fouriercache.assembly import Assembled
from fouriercache.capture import Capture, capture
from fouriercache.cost import work_of
from fouriercache.disk_cache.entries import read_entry, write_entry

ONE = fc.Device("one", {"float32": 1.0}, 1.0, fused_norms=False)
WIDTH, TOKENS = 8, 6


class Positions(nn.Module):
    """Adds a table to tokens; `find(model, tokens)` makes it or has it."""

    def __init__(self, find: Callable[[Positions, Tensor], Tensor]):
        super().__init__()
        self.find, self.project, self.forwards = find, nn.Linear(WIDTH, WIDTH), 0
        self.table: Tensor | None = None
        self.rates = nn.Buffer(torch.rand(WIDTH))

    def forward(self, hidden_states, timestep):
        if not torch.compiler.is_compiling():
            self.forwards += 1
        return self.project(hidden_states + self.find(self, hidden_states)) * timestep[:, None, None]


def make(model: Positions, tokens: Tensor) -> Tensor:
    return torch.outer(torch.arange(tokens.shape[1]).float(), model.rates).sin()


def keep(model: Positions, tokens: Tensor) -> Tensor:
    if torch.compiler.is_compiling():
        return make(model, tokens)
    if model.table is None:
        model.table = make(model, tokens)
    return model.table


def make_again(model: Positions, tokens: Tensor) -> Tensor:
    table = make(model, tokens)
    if not torch.compiler.is_compiling():
        model.table = table
    return table


def keep_of_input(model: Positions, tokens: Tensor) -> Tensor:
    if torch.compiler.is_compiling():
        return make(model, tokens) + tokens.mean()
    if model.table is None:
        model.table = make(model, tokens) + tokens.mean()
    return model.table


def keep_half(model: Positions, tokens: Tensor) -> Tensor:
    return keep(model, tokens) + torch.arange(tokens.shape[1]).float().sin()[:, None]


def copy_constant(model: Positions, tokens: Tensor) -> Tensor:
    if model.table is None:
        model.table = make(model, tokens)
    return model.table.clone()


def call(batch: int = 2) -> dict[str, Tensor]:
    return {"hidden_states": torch.randn(batch, TOKENS, WIDTH), "timestep": torch.full((batch,), 500.0)}


def predict(found: Capture, *, kept: tuple[str, ...]) -> tuple[int, int]:
    work = work_of([found.program], ONE, is_model=True, kept=kept)
    return work.launches, work.moved


def count(model: nn.Module) -> tuple[int, int]:
    arguments = call()
    with torch.no_grad(), CountCalls() as calls:
        model(**arguments)
    return calls.launches, calls.moved


@pytest.mark.parametrize("is_warm", [False, True])
@pytest.mark.parametrize("find", [keep, keep_half])
def test_a_forward_is_predicted_without_the_table_that_an_earlier_one_made(find, is_warm):
    model = Positions(find).eval()
    if is_warm:
        model(**call())
    found = capture(model, call())
    assert found.is_verified
    assert predict(found, kept=found.kept) == count(model)
    assert predict(found, kept=())[0] == count(model)[0] + 4  # arange, cast, product, sine


@pytest.mark.parametrize("find", [make, make_again, keep_of_input, copy_constant])
def test_what_is_made_in_every_forward_or_of_the_inputs_values_is_not_taken_for_kept(find):
    found = capture(Positions(find).eval(), call())
    assert found.kept == ()


def test_only_a_model_that_leaves_something_behind_runs_twice():
    forwards = {}
    for find in (make, keep, make_again):
        model = Positions(find).eval()
        capture(model, call())
        forwards[find] = model.forwards
    assert forwards == {make: 1, keep: 2, make_again: 2}


def test_a_model_that_is_not_run_is_predicted_as_if_it_kept_nothing():
    assert capture(Positions(keep).eval(), call(), verify=False).kept == ()


def test_another_batch_has_the_same_table():
    model = Positions(keep).eval()
    one, many = (capture(model, call(batch)) for batch in (1, 3))
    assert one.kept == many.kept != ()


def test_what_is_kept_comes_back_from_disk():
    model = Positions(keep).eval()
    found = capture(model, call())
    made = Assembled(**{field: getattr(found, field) for field in Assembled.__annotations__})
    assert read_entry(model, *write_entry(model, made)).kept == found.kept != ()


def test_a_report_predicts_the_model_as_it_runs_and_computes_the_table_once():
    def launches(find: Any) -> tuple[int, int]:
        torch.manual_seed(0)
        fast = fc.optimize(Tabled(find).eval(), fc.FORA(interval=2), num_steps=4, example_inputs=call())
        modes = fast.report.cost(ONE).modes
        return modes["original"].launches, modes["compute"].launches

    kept, made = launches(keep), launches(make)
    assert kept == (made[0] - 4, made[1])


class Tabled(Positions):
    """The same before a block with attention and an MLP."""

    def __init__(self, find: Callable[[Positions, Tensor], Tensor]):
        super().__init__(find)
        self.blocks = nn.ModuleList([nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True, norm_first=True)])

    def forward(self, hidden_states, timestep):
        hidden_states = super().forward(hidden_states, timestep)
        for block in self.blocks:
            hidden_states = block(hidden_states)
        return hidden_states
