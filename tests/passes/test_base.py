"""The contract that the base class holds every pass to, on passes that break it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from fouriercache.errors import PassError, PreconditionError, VerifyError
from fouriercache.passes.base import Pass, Pipeline
from fouriercache.passes.edit import insert_after, insert_before, insert_input, replace_uses
from fouriercache.passes.remove_dead import RemoveDead
from fouriercache.program import Input, NoMatch, Program
from fouriercache.testing import trace

aten = torch.ops.aten
X = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class Broken(Pass):
    """Does what the test says."""

    edit: Callable[[Program], int] = field(repr=False)

    def rewrite(self, program: Program) -> int:
        return self.edit(program)


def fn(x: Tensor) -> Tensor:
    return x.sin().exp()


def add_one(program: Program) -> None:
    """Put one more call behind the last."""
    (last,) = program.results
    replace_uses(last, insert_after(last, aten.cos.default, last))


def check(edit: Callable[[Program], int]) -> None:
    Broken(edit).apply(trace(fn, X), check=True)


def test_a_count_of_nothing_cannot_hide_a_change():
    def edit(program: Program) -> int:
        add_one(program)
        return 0

    with pytest.raises(PassError, match=r"Broken\(\) says 0 rewrites, but the graph text is changed"):
        check(edit)


def test_a_count_cannot_boast_of_a_change():
    with pytest.raises(PassError, match="says 3 rewrites, but the graph text is unchanged"):
        check(lambda _: 3)


def test_a_second_run_must_make_no_rewrite():
    def edit(program: Program) -> int:
        add_one(program)
        return 1

    with pytest.raises(PassError, match="is not idempotent: a second run made 1 rewrites"):
        check(edit)


def once(edit: Callable[[Program], None]) -> Callable[[Program], int]:
    """Edit the first time alone."""
    done: list[bool] = []

    def run(program: Program) -> int:
        if not done:
            done.append(True)
            edit(program)
            return 1
        return 0

    return run


def test_a_value_must_have_the_type_its_call_computes():
    def edit(program: Program) -> None:
        (last,) = program.results
        last.meta["val"] = last.meta["val"].double()
        add_one(program)

    with pytest.raises(PassError, match=r"exp = aten.exp.default carries the type .*float64.*it computes .*float32"):
        check(once(edit))


def test_a_type_is_checked_again_when_what_is_read_changes():
    def edit(program: Program) -> None:
        sin = next(program.calls())
        cut = insert_before(sin, aten.slice.Tensor, program.placeholders[0], 1, 0, 4)
        sin.args = (cut,)

    with pytest.raises(PassError, match=r"sin = aten.sin.default carries .*8.*computes .*4"):
        check(once(edit))


def test_every_call_needs_a_value():
    def edit(program: Program) -> None:
        del next(program.calls()).meta["val"]

    with pytest.raises(VerifyError, match=r"sin = aten.sin.default has no meta\['val'\]; build nodes with passes/edit"):
        check(once(edit))


@pytest.mark.parametrize("key", ["nn_module_stack", "stack_trace", "block"])
def test_a_call_keeps_its_origin(key):
    def edit(program: Program) -> None:
        for call in program.calls():
            call.meta.pop(key)
        add_one(program)

    with pytest.raises(PassError, match=rf"sin = aten.sin.default has no meta \['{key}'\]; build nodes"):
        Broken(once(edit)).apply(labelled(), check=True)


@pytest.mark.parametrize("key", ["nn_module_stack", "stack_trace", "block"])
def test_a_new_call_says_its_origin(key):
    def edit(program: Program) -> None:
        add_one(program)
        program.results[0].meta.pop(key)

    with pytest.raises(PassError, match=rf"cos_default = aten.cos.default has no meta \['{key}'\]"):
        Broken(once(edit)).apply(labelled(), check=True)
    Broken(once(add_one)).apply(labelled(), check=True)


def labelled() -> Program:
    program = trace(fn, X)
    for call in program.calls():
        call.meta |= {"nn_module_stack": {"": ("", "Model")}, "stack_trace": "model.py", "block": "blocks.0"}
    return program


def test_a_value_must_have_the_device_and_the_strides_its_call_computes():
    def on_meta(program: Program) -> None:
        program.results[0].meta["val"] = torch.empty(2, 8, device="meta")
        add_one(program)

    def transposed(program: Program) -> None:
        program.results[0].meta["val"] = program.results[0].meta["val"].t().contiguous().t()
        add_one(program)

    for edit in (on_meta, transposed):
        with pytest.raises(PassError, match=r"exp = aten.exp.default carries the type"):
            check(once(edit))


def test_the_callers_inputs_stay():
    def edit(program: Program) -> None:
        insert_input(program, "more", X, "conditioning")

    with pytest.raises(PassError, match=r"changed the caller's inputs to \('x', 'more'\)"):
        check(once(edit))


def test_the_callers_outputs_stay():
    def edit(program: Program) -> None:
        program.set_outputs(program.results * 2, program.outputs * 2)

    with pytest.raises(PassError, match="changed the caller's outputs"):
        check(once(edit))


def test_no_input_becomes_an_output():
    def edit(program: Program) -> None:
        replace_uses(program.results[0], program.placeholders[0])

    with pytest.raises(PassError, match=r"made the graph return its own inputs \['x'\]"):
        check(once(edit))


def test_declared_state_may_come():
    def edit(program: Program) -> None:
        insert_input(program, "slot_0_0", X, "slot")

    check(once(edit))


def test_roles_must_match_the_placeholders():
    program = trace(fn, X)
    program.set_inputs([Input("y", "sample")])
    with pytest.raises(VerifyError, match=r"placeholders \['x'\] do not match the declared inputs"):
        program.verify()


def test_an_error_says_in_which_pass_and_after_which():
    @dataclass(frozen=True)
    class Refusing(Pass):
        def requires(self, program: Program) -> None:
            raise PreconditionError("needs more")

        def rewrite(self, program: Program) -> int:
            raise AssertionError("it was refused")

    with pytest.raises(PreconditionError, match="needs more") as caught:
        Pipeline((RemoveDead(), Refusing())).apply(trace(fn, X))
    assert any(note.endswith("Refusing()") and note.startswith("in ") for note in caught.value.__notes__)
    assert "after ['RemoveDead()']" in caught.value.__notes__


def test_a_pipeline_counts_each_pass_by_its_repr():
    assert Pipeline((RemoveDead(), RemoveDead())).apply(trace(fn, X), check=True) == {"RemoveDead()": 0}


def test_a_refusal_is_recorded_once():
    program = trace(fn, X)
    for _ in range(2):
        Broken(lambda _: 0).refuse(program, NoMatch("too wide", "sin"))
    assert program.refused == {"Broken": [NoMatch("too wide", "sin")]}


def test_what_passes_worked_out_of_a_program_goes_with_it():
    program = trace(fn, X)
    add_one(program)
    (last,) = program.results
    value = weakref.ref(last.meta["val"])
    assert value() is not None
    del program, last
    gc.collect()
    assert value() is None
