"""What `fast.report` tells of a capture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fouriercache.cost import ModeCost, cost_of
from fouriercache.program import Block, NoMatch, Site, TokenGrid
from fouriercache.steps import MODES, Steps


@dataclass(frozen=True)
class Report:
    """Facts of one capture.

    Attributes:
        sites: the sites that hold a cache. found: every site, by kind of site.
        blocks: the repeated blocks. refused: pass name -> why it left something alone.
        grid: the token grid, or None when the graph does not show it.
        modes: cost of one step, "compute" and "reuse"; hoisted parts are counted in.
        moving: the same without what is hoisted: the cost once `prepare` has run.
    """

    sites: tuple[Site, ...]
    found: Mapping[str, tuple[Site, ...]]
    blocks: tuple[Block, ...]
    refused: Mapping[str, list[NoMatch]]
    grid: TokenGrid | None
    modes: Mapping[str, ModeCost]
    moving: Mapping[str, ModeCost]


def report_of(steps: Steps) -> Report:
    """Collect the facts of a capture."""
    canonical = steps.canonical
    refused: dict[str, list[NoMatch]] = {}
    for program in (canonical, *(steps.modes[mode].whole for mode in MODES)):
        for name, reasons in program.refused.items():
            refused.setdefault(name, []).extend(r for r in reasons if r not in refused.get(name, ()))
    return Report(
        sites=canonical.sites,
        found=canonical.found,
        blocks=canonical.blocks,
        refused=refused,
        grid=canonical.grid,
        modes={mode: cost_of(steps.modes[mode].whole) for mode in MODES},
        moving={mode: cost_of(steps.modes[mode].moving) for mode in MODES},
    )
