"""What `fast.report` tells of a capture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fouriercache.cost import ModeCost, cost_of
from fouriercache.program import Block, NoMatch, Site, TokenGrid
from fouriercache.schedules import Decision
from fouriercache.steps import StepPrograms, Steps


@dataclass(frozen=True)
class Report:
    """Facts of one capture.

    Attributes:
        sites: the sites that hold a cache. found: every site, by kind of site.
        blocks: the repeated blocks. refused: pass name -> why it left something alone.
        grid: the token grid, or None when the graph does not show it.
        modes: cost of one step, "compute" and "reuse", of a method that chooses tokens also "partial"; hoisted parts
            are counted in.
        moving: the same without what is hoisted: the cost once `prepare` has run. Both have "probe" for a schedule that
            looks at every step.
        decisions: what an adaptive schedule decided about each step of the trajectory that this thread is in, for each
            pass, and whether a distance was moved into a polynomial's range for it.
    """

    sites: tuple[Site, ...]
    found: Mapping[str, tuple[Site, ...]]
    blocks: tuple[Block, ...]
    refused: Mapping[str, list[NoMatch]]
    grid: TokenGrid | None
    modes: Mapping[str, ModeCost]
    moving: Mapping[str, ModeCost]
    decisions: Mapping[int | str, tuple[Decision, ...]]


def report_of(steps: Steps, decisions: Mapping[int | str, tuple[Decision, ...]] | None = None) -> Report:
    """Collect the facts of a capture, and of the trajectory that runs."""
    canonical = steps.canonical
    parts: dict[str, StepPrograms] = dict(steps.modes.items())
    if steps.probe is not None:
        parts["probe"] = steps.probe.parts
    refused: dict[str, list[NoMatch]] = {}
    for program in (canonical, *(programs.whole for programs in parts.values())):
        for name, reasons in program.refused.items():
            refused.setdefault(name, []).extend(r for r in reasons if r not in refused.get(name, ()))
    return Report(
        sites=canonical.sites,
        found=canonical.found,
        blocks=canonical.blocks,
        refused=refused,
        grid=canonical.grid,
        modes={mode: cost_of(programs.whole) for mode, programs in parts.items()},
        moving={mode: cost_of(programs.moving) for mode, programs in parts.items()},
        decisions=decisions or {},
    )
