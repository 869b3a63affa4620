"""From an optimised module to the plain values the report is made of."""

from __future__ import annotations

from collections.abc import Sequence

from fouriercache.report.data import GraphFacts, Grid, ModeRow, Refusal, SiteRow
from fouriercache.report.highlight import choose_block
from fouriercache.report.views import name_span
from fouriercache.runtime.module import OptimizedModule


def collect_facts(fast: OptimizedModule, method: str, site: str) -> GraphFacts:
    """Read sites, refusals, grid, costs and program texts off an optimised module that has been captured."""
    report = fast.report
    canonical = fast.program("canonical").text()
    every_block = name_span([found.path for found in report.blocks])
    return GraphFacts(
        method=method,
        site=site,
        sites=tuple(
            SiteRow(
                found.kind,
                found.block or every_block,
                found.name,
                _shape_text(found.shape),
                found.gated,
            )
            for found in report.sites
        ),
        refusals=tuple(
            Refusal(name, reason.reason, str(reason.node or ""))
            for name, reasons in report.refused.items()
            for reason in reasons
        ),
        grid=None if report.grid is None else Grid(report.grid.t, report.grid.h, report.grid.w, report.grid.start),
        modes=tuple(
            ModeRow(mode, cost.flops, cost.launches, cost.parameters_read)
            for mode, cost in (*report.modes.items(), ("prepared", report.moving["reuse"]))
        ),
        block=choose_block(canonical),
        canonical=canonical,
        reuse=fast.program("reuse").text(),
    )


def _shape_text(shape: Sequence[int | str]) -> str:
    """Show a shape with its symbols numbered from 0, as program texts do: the capture's own numbers mean nothing."""
    symbols = list(dict.fromkeys(size for size in shape if isinstance(size, str)))
    return ", ".join(f"s{symbols.index(size)}" if isinstance(size, str) else str(size) for size in shape)
