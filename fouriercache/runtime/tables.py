"""Tables of what is in a report, as `print` shows them; the commands draw the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fouriercache.figures import format_bytes, format_count, format_duration, format_percent, format_speedup

if TYPE_CHECKING:
    from fouriercache.program import Block, Site
    from fouriercache.runtime.estimates import CostEstimate


@dataclass(frozen=True)
class TextTable:
    """A table of words and figures; columns in `numbers` are flush right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[str, ...] = ()

    def text(self) -> str:
        """Return its lines."""
        lines = [self.columns, *self.rows]
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        right = [name in self.numbers for name in self.columns]
        found = [self.title]
        for line in lines:
            cells = zip(line, widths, right, strict=True)
            found.append(
                "  ".join(cell.rjust(width) if is_right else cell.ljust(width) for cell, width, is_right in cells)
            )
        return "\n".join(line.rstrip() for line in found)


@dataclass(frozen=True)
class SiteRow:
    """A site that was found; `shape` is printed as it stands, a dynamic batch has a name in it."""

    kind: str
    block: str
    name: str
    shape: str
    gated: bool


@dataclass(frozen=True)
class SiteGroup:
    """Sites that differ only in their block."""

    kind: str
    blocks: str
    shape: str
    gated: bool
    count: int


def site_rows(sites: Sequence[Site], blocks: Sequence[Block]) -> tuple[SiteRow, ...]:
    """Return a row for each site; one that stands for all blocks names them all."""
    every_block = _name_span([found.path for found in blocks])
    return tuple(
        SiteRow(found.kind, found.block or every_block, found.name, _shape_text(found.shape), found.gated)
        for found in sites
    )


def group_sites(sites: Sequence[SiteRow]) -> list[SiteGroup]:
    """Group sites by kind, shape and gate, in order of first appearance."""
    members: dict[tuple[str, str, bool], list[str]] = {}
    for site in sites:
        members.setdefault((site.kind, site.shape, site.gated), []).append(site.block)
    return [
        SiteGroup(kind, _name_span(blocks), shape, gated, len(blocks))
        for (kind, shape, gated), blocks in members.items()
    ]


def _name_span(blocks: Sequence[str]) -> str:
    """Name a run of blocks by its ends: "blocks.0 to 7"."""
    first, last = blocks[0], blocks[-1]
    room, dot, number = last.rpartition(".")
    return first if first == last else f"{first} to {number if dot and first.startswith(room + dot) else last}"


def sites_table(sites: Sequence[SiteRow]) -> TextTable:
    """Return a row for each group of sites."""
    rows = tuple(
        (group.kind, group.blocks, f"[{group.shape}]", "yes" if group.gated else "no", str(group.count))
        for group in group_sites(sites)
    )
    return TextTable("Sites", ("kind", "blocks", "shape", "gate", "found"), rows, ("found",))


def refused_table(refused: Sequence[tuple[str, str, str]]) -> TextTable | str:
    """Return what passes left alone, (pass, reason, node) each, or a sentence when that is nothing."""
    if not refused:
        return "Nothing was left alone."
    return TextTable("Left alone, and why", ("pass", "reason", "node"), tuple(refused))


class Grid(Protocol):
    """What is said of a token grid."""

    @property
    def t(self) -> int:
        """Frames."""

    @property
    def h(self) -> int:
        """Rows."""

    @property
    def w(self) -> int:
        """Tokens in a row."""

    @property
    def start(self) -> int:
        """Where the first one stands."""


def grid_text(found: Grid | None) -> str:
    """Return a sentence about the token grid."""
    if found is None:
        return "Token grid: not found"
    return f"Token grid: {found.t} x {found.h} x {found.w}, first token at {found.start}"


def modes_table(modes: Sequence[tuple[str, int, int, int]], batch: int | None) -> TextTable:
    """Return (mode, FLOPs, launches, bytes of weights) of one call, and what "prepared" takes of "compute"."""
    names = {"prepared": "reuse, prepared"}
    rows: list[tuple[str, ...]] = [
        (names.get(mode, mode), format_count(flops), str(launches), format_bytes(read))
        for mode, flops, launches, read in modes
    ]
    by_name = {mode: figures for mode, *figures in modes}
    pairs = zip(by_name["prepared"], by_name["compute"], strict=True)
    rows.append(("prepared / compute", *(format_percent(part / whole if whole else 0.0) for part, whole in pairs)))
    title = "Cost of one call" if batch is None else f"Cost of one call, batch {batch}"
    numbers = ("FLOPs", "launches", "weights read")
    return TextTable(title, ("mode", *numbers), tuple(rows), numbers)


def cost_table(cost: CostEstimate) -> TextTable:
    """Return what a step of each kind is predicted to take."""
    numbers = ("FLOPs", "launches", "moved", "time", "memory")
    rows = tuple(
        (
            mode,
            format_count(step.flops),
            str(step.launches),
            format_bytes(step.moved),
            format_duration(step.seconds),
            format_bytes(step.memory),
        )
        for mode, step in cost.modes.items()
    )
    return TextTable(f"Predicted for {cost.device.name}, batch {cost.batch}", ("step", *numbers), rows, numbers)


def cost_lines(cost: CostEstimate) -> list[str]:
    """Return what memory and a trajectory are predicted to take, in sentences."""
    fits = "" if cost.fits else f": more than the {format_bytes(cost.device.memory or 0)} that it has"
    lines = [
        f"Weights {format_bytes(cost.weights)}, kept features {format_bytes(cost.cache)}, hoisted values "
        f"{format_bytes(cost.hoisted)}; at most {format_bytes(cost.peak_memory)} at once{fits}"
    ]
    found = cost.trajectory
    if found is None:
        return [*lines, "Computed steps are decided as they run: give them to see a trajectory"]
    return [
        *lines,
        f"Trajectory: {len(found.computed)} of {found.steps} steps computed, "
        f"{format_speedup(1 / found.flops_speedup)} by FLOPs, {format_speedup(1 / found.speedup)} by time "
        f"({format_duration(found.original.seconds)} to {format_duration(found.cached.seconds)})",
    ]


def _shape_text(shape: Sequence[int | str]) -> str:
    """Show a shape with its symbols numbered from 0, as program texts do: the capture's own numbers mean nothing."""
    symbols = list(dict.fromkeys(size for size in shape if isinstance(size, str)))
    return ", ".join(f"s{symbols.index(size)}" if isinstance(size, str) else str(size) for size in shape)
