"""Which graphs a method can ever ask for, and what runs at each step, where that is known beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fouriercache.bundle.manifest import Step
from fouriercache.errors import LoweringError
from fouriercache.methods import Method
from fouriercache.runtime.call import StepCall
from fouriercache.runtime.rules import Rules
from fouriercache.schedules import Place, SiteSchedule
from fouriercache.steps import ModeKey, Steps


def steps_of(rules: Rules, places: Sequence[Place]) -> tuple[Step, ...] | None:
    """Return what a trajectory's steps run, with which scalars; None where that shows in the run alone.

    That is when the number of steps is not known, the schedule measures, or the predictor reads the features.
    """
    count = rules.num_steps
    if count is None or not is_known_beforehand(rules.method, count):
        return None
    session = replace(rules, passes_per_step=1, direction="down", timesteps=None)()
    found = []
    for step in range(count):
        call = StepCall((float(count - step),), None, (), lambda: False, lambda: False, lambda: True)
        plan = session.plan(call, None, places)
        session.commit(plan)
        found.append(Step(plan.mode, plan.refreshed, plan.coefficients, plan.counts))
    return tuple(found)


def is_known_beforehand(method: Method, num_steps: int) -> bool:
    """Whether what each of so many steps runs, and with which scalars, is known before a trajectory runs."""
    return method.schedule.steps(num_steps) is not None and not method.predictor.needs_gram


def why_no_single_graph(method: Method) -> str | None:
    """Why no step of the method can be one graph with one If; None when all can."""
    if method.tokens.is_partial:
        return "the method computes some tokens afresh at some steps, and one If has two bodies"
    if isinstance(method.schedule, SiteSchedule):
        return "the method computes single sites at steps of their own, and one If has two bodies"
    return None


def keys_of(rules: Rules, steps: Steps) -> list[ModeKey]:
    """Return the modes that a bundle needs, those of `steps` first.

    Raises LoweringError when the schedule computes single sites and the number of steps is not known.
    """
    found: list[ModeKey] = [(mode, ()) for mode in steps.modes]
    if not isinstance(rules.method.schedule, SiteSchedule):
        return found
    table = steps_of(rules, steps.places)
    if table is None:
        raise LoweringError(
            f"the schedule computes single sites at some steps, and which those are is not known.\n"
            f"  where: {rules.method.schedule!r}\n"
            "  Pass optimize(..., num_steps=): the graphs of these steps are then exported, too."
        )
    return list(dict.fromkeys([*found, *((step.mode, step.refreshed) for step in table)]))
