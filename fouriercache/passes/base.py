"""What every pass is: a frozen dataclass that edits a program in place and says how many rewrites it made."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from fouriercache.errors import PassError
from fouriercache.gates import one_at_a_time
from fouriercache.passes.fakes import fake_result
from fouriercache.program import NoMatch, Program, value_of

logger = logging.getLogger(__name__)

_ORIGINS = ("nn_module_stack", "stack_trace")
"""Where a call stands in the model: its modules, and the lines that led to it."""


@dataclass(frozen=True)
class Pass(ABC):
    """Base of all passes: options are fields, there is no other state, `repr` names the pass in cache keys."""

    def requires(self, program: Program) -> None:  # noqa: B027  a pass may need nothing
        """Raise `PreconditionError` when the program lacks what the pass needs; nothing has been touched yet."""

    @abstractmethod
    def rewrite(self, program: Program) -> int:
        """Edit `program` in place and return how many rewrites were made."""

    def ensures(self, program: Program) -> None:  # noqa: B027  nor promise more than its base class does
        """Raise `PassError` when the result is not what the pass promises."""

    def refuse(self, program: Program, reason: NoMatch) -> None:
        """Record why the pass left something alone."""
        program.refuse(type(self).__name__, reason)

    @one_at_a_time
    def apply(self, program: Program, *, check: bool = False) -> int:
        """Run the pass on `program`.

        Args:
            check: hold the pass to its whole contract: the count is true, every value's type is true, no call loses its
                source location or block label and new ones have them, inputs and outputs are the same but for declared
                state, no input newly aliases an output, and a second run makes no rewrite.

        Raises:
            PreconditionError: the program lacks what the pass needs.
            PassError: the pass broke its contract.
            VerifyError: the pass left a malformed program.
        """
        try:
            self.requires(program)
            before = program.clone() if check else None
            count = self.rewrite(program)
            self.ensures(program)
            if before is not None:
                self._check(before, program, count)
        except Exception as error:
            error.add_note(f"in {self!r}")
            raise
        logger.debug("%r: %d rewrites", self, count)
        return count

    def _check(self, before: Program, after: Program, count: int) -> None:
        after.verify()
        if (before.text() != after.text()) != (count > 0):
            raise PassError(f"{self!r} says {count} rewrites, but the graph text is {_changed(before, after)}")
        _check_types(before, after)
        _check_origins(before, after)
        if _caller_inputs(before) != _caller_inputs(after):
            raise PassError(f"{self!r} changed the caller's inputs to {_caller_inputs(after)}")
        if _caller_outputs(before) != _caller_outputs(after):
            raise PassError(f"{self!r} changed the caller's outputs")
        new = _aliased(after) - _aliased(before)
        if new:
            raise PassError(f"{self!r} made the graph return its own inputs {sorted(new)}")
        again = after.clone()
        repeated = self.rewrite(again)
        if repeated or again.text() != after.text():
            raise PassError(f"{self!r} is not idempotent: a second run made {repeated} rewrites")


@dataclass(frozen=True)
class Pipeline:
    """Passes in order; the order is a list with reasons."""

    passes: Sequence[Pass]

    def apply(self, program: Program, *, check: bool = False) -> dict[str, int]:
        """Run every pass; return the count of each by its `repr`, verify the result once (with `check`, each one)."""
        counts: dict[str, int] = {}
        for step in self.passes:
            try:
                counts[repr(step)] = counts.get(repr(step), 0) + step.apply(program, check=check)
            except Exception as error:
                error.add_note(f"after {list(counts)}")
                raise
        program.verify()
        return counts


def _changed(before: Program, after: Program) -> str:
    return "unchanged" if before.text() == after.text() else "changed"


def _caller_inputs(program: Program) -> tuple[str, ...]:
    """Names of the inputs that the caller of the model feeds."""
    return tuple(given.name for given in program.inputs if given.role in ("sample", "timestep", "conditioning"))


def _caller_outputs(program: Program) -> int:
    """How many results the model's caller gets."""
    return sum(given.role == "result" for given in program.outputs)


def _aliased(program: Program) -> set[str]:
    """Names of the inputs that the graph returns unchanged."""
    inputs = set(program.placeholders)
    return {node.name for node in program.results if node in inputs}


def _check_types(before: Program, after: Program) -> None:
    """Compare the fake value of every call that is new or reads something new with what its target gives.

    Raises:
        PassError: a value's shape or dtype is not what the call computes.
    """
    known = {node.name: node for node in before.calls()}
    for node in (node for graph in after.graphs() for node in graph.nodes if node.op == "call_function"):
        if isinstance(node.target, torch._ops.HigherOrderOperator) or _is_same(known.get(node.name), node):
            continue
        have = fake_result(node)
        if _types(have) != _types(node.meta["val"]):
            raise PassError(
                f"{node.name} = {node.target} carries the type {_types(node.meta['val'])}, it computes {_types(have)}"
            )


def _check_origins(before: Program, after: Program) -> None:
    """Check that calls say where they come from: a call that stays says what it said before, a new one what the calls
    that it reads say, and the block in which it stands.

    A new call stands in a block when it reads a call there, and every other that it reads or that reads it does, too.
    Control flow over whole steps, and what is taken out of its results, stands nowhere in the model.

    Raises:
        PassError: a call lacks what it must say.
    """
    known = {node.name: node for node in before.calls()}
    for node in after.calls():
        if any(isinstance(other.target, torch._ops.HigherOrderOperator) for other in (node, *node.all_input_nodes)):
            continue
        old = known.get(node.name)
        reads = [other for other in node.all_input_nodes if _is_call(other)]
        said = reads if old is None else [old]
        wanted = [key for key in _ORIGINS if any(key in other.meta for other in said)]
        beside = {other.meta.get("block") for other in (*reads, *node.users) if _is_call(other)}
        is_inside = reads and len(beside) == 1 and None not in beside
        if is_inside if old is None else "block" in old.meta:
            wanted.append("block")
        lost = [key for key in wanted if key not in node.meta]
        if lost:
            raise PassError(f"{node.name} = {node.target} has no meta {lost}; build nodes with passes/edit.py")


def _is_call(node: fx.Node) -> bool:
    return node.op == "call_function"


def _is_same(old: fx.Node | None, new: fx.Node) -> bool:
    """Whether a call and what it reads are what they were: values are compared by identity."""
    if old is None or (old.target, str(old.args), str(old.kwargs)) != (new.target, str(new.args), str(new.kwargs)):
        return False
    pairs = zip((old, *old.all_input_nodes), (new, *new.all_input_nodes), strict=True)
    return all(value_of(a) is value_of(b) for a, b in pairs)


def _types(value: Any) -> list[Any]:
    """Dtypes, devices, and sizes that are plain numbers: symbols may be spelled in several ways.

    Of strides, which dimensions are dense (1), broadcast (0), or neither: that is their order; the gaps between rows
    come and go with what is cut out of what.
    """
    found: list[Any] = []
    for leaf in torch.utils._pytree.tree_leaves(value):
        if isinstance(leaf, Tensor):
            sizes: list[object] = list(leaf.shape)
            strides = [_order(a) if _plain(n) != 1 else "?" for a, n in zip(leaf.stride(), sizes, strict=True)]
            found.append((leaf.dtype, leaf.device, [*map(_plain, sizes)], strides))
        else:
            found.append(isinstance(leaf, int | torch.SymInt))
    return found


def _plain(size: object) -> object:
    return size if isinstance(size, int) else "?"


def _order(stride: object) -> object:
    return min(stride, 2) if isinstance(stride, int) else 2
