"""`fouriercache inspect`."""

from __future__ import annotations

from typing import Annotated

import typer

from fouriercache.cli.options import Interval, Json, MethodName, Order, SiteName, Steps, examples
from fouriercache.cli.speak import show, show_json, working
from fouriercache.models.demo import load_demo_model
from fouriercache.optimize import optimize
from fouriercache.presets import method_from_name
from fouriercache.report.console import draw_facts
from fouriercache.report.data import graph_as_dict
from fouriercache.report.demo import warm_up
from fouriercache.report.facts import collect_facts

EXAMPLES = examples(
    ("inspect --method FORA --site stack", "the sites FORA would use, and what each kind of step costs"),
    ("inspect --program reuse", "the text of the graph that a cached step runs"),
    ("inspect --json", "sites, refusals, grid and costs for a program to read"),
)


def inspect(
    method: MethodName = "TaylorSeer",
    site: SiteName = "branch",
    interval: Interval = None,
    order: Order = None,
    steps: Steps = 50,
    program: Annotated[
        str | None, typer.Option(help="Print a program's text instead: canonical, compute, reuse.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Optimise the shipped model and say what was found: sites, refusals, token grid, cost of each mode."""
    given = {"interval": interval, "order": order}
    chosen = method_from_name(method, site=site, **{name: value for name, value in given.items() if value is not None})
    with working("Capturing and rewriting the shipped model"):
        fast = optimize(load_demo_model(), chosen, num_steps=steps)
        warm_up(fast, chosen.schedule.steps(steps) or (), steps)
        facts = collect_facts(fast, chosen.name, chosen.site)
        text = None if program is None else fast.program(program).text()
    if as_json:
        show_json(graph_as_dict(facts) | ({} if text is None else {"program": text}))
    elif text is not None:
        typer.echo(text, nl=False)
    else:
        show(draw_facts(facts))
