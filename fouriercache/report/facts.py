"""From an optimised module to the plain values the report is made of."""

from __future__ import annotations

from fouriercache.report.data import GraphFacts, Grid, ModeRow, Refusal
from fouriercache.report.highlight import choose_block
from fouriercache.runtime.module import OptimizedModule
from fouriercache.runtime.tables import site_rows


def collect_facts(fast: OptimizedModule, method: str, site: str) -> GraphFacts:
    """Read sites, refusals, grid, costs and program texts off an optimised module that has been captured."""
    report = fast.report
    canonical = fast.program("canonical").text()
    return GraphFacts(
        method=method,
        site=site,
        sites=site_rows(report.sites, report.blocks),
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
        batch=report.counted_batch,
    )
