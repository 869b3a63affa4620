"""How the text of a block names what it reads, so that blocks that do the same read the same.

A block's own values are numbered from `%0`. Its weights and sites lose its path: `@.attn1.to_q.weight`,
`slot[.attention, 0]`. A value from elsewhere has several names, of which blocks may share one: `previous#0 %7` is value
7 of the first visit of the block before, `own#0 %7` of an earlier visit of the block itself.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import fx

from fouriercache.program import Program, sizes_of, tensor_of, value_of
from fouriercache.testing.visits import Place, Visit
from fouriercache.text import type_text

_SYMBOL = re.compile(r"\b[su]\d+\b")


@dataclass(frozen=True)
class Origin:
    """One name of a value from another visit."""

    seen: Literal["own", "previous", "there"]
    place: Place | None
    number: int
    value: int

    @property
    def visit(self) -> str:
        """The name of the visit."""
        return f"{self.seen if self.place is None else self.place.text}#{self.number}"


class Sizes:
    """Renames size symbols: those of the caller's tensors to s0, s1 throughout, others to n0, n1 within one text."""

    def __init__(self, program: Program) -> None:
        self._shared: dict[str, str] = {}
        self._own: dict[str, str] = {}
        for node in program.inputs_of("sample", "timestep", "conditioning"):
            tensor = tensor_of(node)
            for size in () if tensor is None else sizes_of(tensor):
                for name in _SYMBOL.findall(str(size)):
                    self._shared.setdefault(name, f"s{len(self._shared)}")

    def begin(self) -> None:
        """Begin another text."""
        self._own = {}

    def __call__(self, size: object) -> str:
        def rename(found: re.Match[str]) -> str:
            name = found.group()
            return self._shared.get(name) or self._own.setdefault(name, f"n{len(self._own)}")

        return _SYMBOL.sub(rename, str(size))


class Names:
    """Names of a program's values, seen from a visit."""

    def __init__(self, program: Program, found: Sequence[Visit]) -> None:
        self._program = program
        self._home = {node: visit for visit in found for node in visit.calls}
        self._roles = {given.name: given.role for given in program.inputs}
        samples = [tensor_of(node) for node in program.inputs_of("sample")]
        self.device = next((tensor.device for tensor in samples if tensor is not None), torch.device("cpu"))

    def of_weight(self, node: fx.Node, place: Place) -> str:
        """`@.attn1.to_q.weight` within its block, the whole path elsewhere."""
        return f"@{place.shorten(str(node.meta.get('source', node.target)))}"

    def of_input(self, name: str, place: Place) -> str:
        """An input's own name; of a site's inputs what they hold and of which site."""
        slot = self._program.slots.get(name)
        if slot is not None:
            return f"slot[{place.shorten(slot.column)}, {slot.age}]"
        site = self.site_of(name, self._roles[name])
        return name if site is None else self.of_state(name, site, place)

    def site_of(self, name: str, role: str) -> str | None:
        """The site that an input or output belongs to; states and controls end in its position."""
        if name in self._program.slots:
            return self._program.slots[name].site
        if role == "slot":
            return next((slot.site for slot in self._program.slots.values() if slot.column == name), name)
        found = re.fullmatch(r".+_(\d+)", name)
        if found is None or role not in ("state", "control") or int(found[1]) >= len(self._program.sites):
            return None
        return self._program.sites[int(found[1])].name

    def of_state(self, name: str, site: str, place: Place) -> str:
        """`age[.mlp]` for the state or control `age_1` of the site at position 1."""
        return f"{name.rpartition('_')[0]}[{place.shorten(site)}]"

    def place_of(self, site: str | None) -> Place:
        """The block that a site stands in."""
        found = next((known for known in self._program.sites if known.name == site), None)
        return Place.read("" if found is None else found.block)

    def relative(self, node: fx.Node, at: Visit) -> tuple[Origin, ...]:
        """Names of a value of another visit that other blocks may have for theirs, too."""
        home = self._home[node]
        number, value = home.number, home.numbers[node]
        if home.place == at.place:
            return (Origin("own", None, number, value),)
        return (Origin("previous", None, number, value),) if at.place.follows(home.place) else ()

    def origin(self, node: fx.Node) -> Origin:
        """The name of a value that does not depend on who reads it."""
        home = self._home[node]
        return Origin("there", home.place, home.number, home.numbers[node])

    def is_call(self, node: fx.Node) -> bool:
        """Whether a value is a call's, not an input or a weight."""
        return node in self._home


def type_of(node: fx.Node, sizes: Callable[[object], str]) -> str:
    """The type of a value; of several equal ones, `(f32[2,8] x 6)`."""
    value = value_of(node)
    if not isinstance(value, list | tuple):
        return type_text(value, sizes)
    kinds = [(kind, len(list(run))) for kind, run in itertools.groupby(type_text(item, sizes) for item in value)]
    return f"({', '.join(kind if count == 1 else f'{kind} x {count}' for kind, count in kinds)})"


def join_numbered(texts: Iterable[str]) -> str:
    """Join with commas; three or more that count up, `%3, %4, %5`, become `%3..%5`."""
    runs: list[list[str]] = []
    for text in texts:
        if runs and _counts_up(runs[-1][-1], text):
            runs[-1].append(text)
        else:
            runs.append([text])
    return ", ".join(f"{run[0]}..{run[-1]}" if len(run) > 2 else ", ".join(run) for run in runs)


def _counts_up(before: str, after: str) -> bool:
    first, second = (re.fullmatch(r"(%|in)(\d+)", text) for text in (before, after))
    return first is not None and second is not None and first[1] == second[1] and int(second[2]) == int(first[2]) + 1
