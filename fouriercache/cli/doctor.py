"""`fouriercache doctor`."""

from __future__ import annotations

import typer

from fouriercache.cli.exits import CHECK_FAILED
from fouriercache.cli.options import Json, examples
from fouriercache.cli.speak import show, show_json
from fouriercache.errors import OptimizeError
from fouriercache.models.demo import load_demo_model
from fouriercache.report.console import draw_findings
from fouriercache.report.environment import Finding, examine

EXAMPLES = examples(
    ("doctor", "what is here, what is missing, and what to do about it"),
    ("doctor --json | jq '.[] | select(.state != \"good\")'", "what is not as it should be"),
)


def doctor(as_json: Json = False) -> None:
    """Say what this machine has: versions, extras, backends, threads, and whether the shipped model loads."""
    findings = (*examine(), _examine_model())
    if as_json:
        show_json([vars(finding) for finding in findings])
    else:
        show(draw_findings(findings))
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(CHECK_FAILED)


def _examine_model() -> Finding:
    try:
        count = sum(parameter.numel() for parameter in load_demo_model().parameters())
    except OptimizeError as error:
        what, _, advice = str(error).partition("\n")
        return Finding("Demo model", "weights", what, "bad", advice.strip())
    return Finding("Demo model", "weights", f"loaded, {count:,} parameters")
