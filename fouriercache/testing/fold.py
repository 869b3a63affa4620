"""A program's text with repeated blocks folded: what a reviewer reads of a model of fifty blocks."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import fx

from fouriercache.cost import cost_of_calls
from fouriercache.program import Program
from fouriercache.testing.edges import input_lines, output_lines
from fouriercache.testing.names import Names, Origin, Sizes, join_numbered, type_of
from fouriercache.testing.visits import Place, Visit, find_visits, merge_places
from fouriercache.text import target_text

Parts = dict[str, tuple[str, ...]]
"""Title -> lines."""


@dataclass(frozen=True)
class _Reading:
    """What a visit reads and does: equal for visits that differ in nothing but the block."""

    lines: tuple[str, ...]
    types: tuple[str, ...]


@dataclass
class _Operand:
    """Where the visits of a fold have one operand from: `shared` are the relative names that hold for all of them.

    Otherwise it is the value `first` of one visit for the first block, and one `step` values further on for each block.
    """

    shared: tuple[Origin, ...]
    first: Origin
    last: Origin
    step: int | None = None

    def joined(self, other: _Operand) -> _Operand | None:
        """Return what holds for the next block, too; None when nothing does."""
        shared = tuple(name for name in self.shared if name in other.shared)
        step = other.first.value - self.last.value
        same_visit = (self.first.place, self.first.number) == (other.first.place, other.first.number)
        in_step = same_visit and self.step in (None, step)
        if not shared and not in_step:
            return None
        # a first step that is refused later must not come back
        return _Operand(shared, self.first, other.first, step if in_step else -1)

    @property
    def origin(self) -> Origin:
        return self.shared[0] if self.shared else self.first

    @property
    def note(self) -> str:
        return f" (+{self.step} a block)" if self.step and not self.shared else ""


@dataclass
class _Fold:
    """Visits that read alike, and where they have their operands from."""

    visits: list[Visit]
    reading: _Reading
    operands: list[_Operand]

    def takes(self, visit: Visit, reading: _Reading, operands: Sequence[_Operand]) -> bool:
        """Take a visit in, if it is of the next block and reads like those that are there."""
        last = self.visits[-1]
        if not visit.place.follows(last.place) or visit.number != last.number or reading != self.reading:
            return False
        joined = [mine.joined(its) for mine, its in zip(self.operands, operands, strict=True)]
        known = [operand for operand in joined if operand is not None]
        if len(known) < len(joined):
            return False
        self.visits.append(visit)
        self.operands = known
        return True

    @property
    def name(self) -> str:
        return f"{self.visits[0].place.to(self.visits[-1].place)}#{self.visits[0].number}"

    @property
    def title(self) -> str:
        cost = cost_of_calls(self.visits[0].calls)
        times = f"{len(self.visits)} x " if len(self.visits) > 1 else ""
        return f"{self.name}: {times}{cost.launches:,} launches, {cost.flops:,} FLOPs"


def fold_program(program: Program) -> Parts:
    """Return the text of a program in parts: its inputs, each run of blocks that do the same, what it returns.

    Every call, type and constant is in it, and which value each call reads. Names that torch gives nodes are not, nor
    is the device that all is on.
    """
    found = find_visits(program.graph)
    names, sizes = Names(program, found), Sizes(program)
    folds: list[_Fold] = []
    for visit in found:
        reader = _Reader(visit, names, sizes)
        reading = _Reading(tuple(reader.lines()), tuple(reader.types()))
        operands = [_operand(names, node, visit) for node in reader.operands]
        if not folds or not folds[-1].takes(visit, reading, operands):
            folds.append(_Fold([visit], reading, operands))
    parts: Parts = {"inputs": tuple(input_lines(program, names, sizes))}
    seen: dict[tuple[str, ...], str] = {}
    for fold in folds:
        lines = fold.reading.lines
        first = seen.setdefault(lines, fold.name)
        body = lines if first == fold.name or len(lines) < 4 else (f"as in {first}",)
        parts[fold.title] = (*_operand_lines(fold.reading.types, fold.operands), *body)
    return {**parts, "returns": tuple(output_lines(program, names))}


def _operand(names: Names, node: fx.Node, visit: Visit) -> _Operand:
    origin = names.origin(node)
    return _Operand(names.relative(node, visit), origin, origin)


class _Reader:
    """Writes the calls of one visit; gathers what it reads from other visits."""

    def __init__(self, visit: Visit, names: Names, sizes: Sizes) -> None:
        self._visit, self._names, self._sizes = visit, names, sizes
        self.operands: dict[fx.Node, str] = {}

    def lines(self) -> Iterator[str]:
        self._sizes.begin()
        for (source, kind), run in itertools.groupby(self._visit.calls, self._kind):
            pieces = list(run)
            indices = [cast(int, node.args[1]) for node in pieces] if source is not None else []
            if len(pieces) < 2 or indices != list(range(indices[0], indices[0] + len(pieces))):
                yield from (self._line(node) for node in pieces)
                continue
            first, last = (self._visit.numbers[node] for node in (pieces[0], pieces[-1]))
            taken = f"{self._argument(source)}, {indices[0]}..{indices[-1]}"
            yield f"%{first}..%{last}: {kind} = getitem({taken})"

    def types(self) -> Iterator[str]:
        """Types of the operands."""
        return (type_of(node, self._sizes) for node in self.operands)

    def _kind(self, node: fx.Node) -> tuple[fx.Node | None, str]:
        """What stands in one line: pieces of one value, of one type."""
        source = node.args[0] if node.target is operator.getitem else None
        return (source, type_of(node, self._sizes)) if isinstance(source, fx.Node) else (None, node.name)

    def _line(self, node: fx.Node) -> str:
        said = [self._argument(value) for value in node.args]
        said += [f"{key}={self._argument(value)}" for key, value in sorted(node.kwargs.items())]
        number = self._visit.numbers[node]
        return f"%{number}: {type_of(node, self._sizes)} = {target_text(node.target)}({', '.join(said)})"

    def _argument(self, value: Any) -> str:
        if isinstance(value, fx.Node):
            return self._value(value)
        if isinstance(value, list | tuple):
            return f"[{join_numbered(self._argument(item) for item in value)}]"
        if isinstance(value, torch.SymInt):
            return self._sizes(value)
        if isinstance(value, torch.device):
            return "here" if value == self._names.device else str(value)
        return repr(value) if isinstance(value, float | str) else str(value)

    def _value(self, node: fx.Node) -> str:
        if node.op == "get_attr":
            return self._names.of_weight(node, self._visit.place)
        if node.op == "placeholder":
            return self._names.of_input(node.name, self._visit.place)
        if node in self._visit.numbers:
            return f"%{self._visit.numbers[node]}"
        return self.operands.setdefault(node, f"in{len(self.operands)}")


def _operand_lines(types: Sequence[str], operands: Sequence[_Operand]) -> Iterator[str]:
    """Say where the operands come from: one line for those of one type and one visit, or of blocks in a row."""
    runs: list[tuple[Place, tuple[str, str, tuple[int, ...], str]]] = []
    known = [(kind, operand.origin, operand.note) for kind, operand in zip(types, operands, strict=True)]
    for (kind, visit, place, note), run in itertools.groupby(
        known, lambda it: (it[0], it[1].visit, it[1].place, it[2])
    ):
        numbered = visit if place is None else visit.removeprefix(place.text)
        runs.append((place or Place(""), (kind, numbered, tuple(origin.value for _, origin, _ in run), note)))
    position = 0
    for first, last, (kind, visit, values, note) in merge_places(runs):
        blocks = 1 if first.index is None or last.index is None else last.index - first.index + 1
        end = position + blocks * len(values)
        said = join_numbered(f"in{number}" for number in range(position, end))
        yield f"{said}: {kind} = {first.to(last)}{visit} {join_numbered(f'%{value}' for value in values)}{note}"
        position = end
