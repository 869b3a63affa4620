"""How trajectories end: warnings when the next one begins, as before that nobody knows that they did.

Where a pipeline says beforehand that there are too few steps, a refusal.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from fouriercache.errors import ShortTrajectoryWarning, TrajectoryError

_MANY_ONES = 3
"""Trajectories of one step in a row that are more than a warm-up."""


def warn_of_endings(end: tuple[int, int] | None, ones: int, num_steps: int | None) -> None:
    """Warn with ShortTrajectoryWarning where a trajectory that ended was not what was declared.

    Args:
        end: steps of the last trajectory, and unnamed calls in its last step, if it fell short after its first step.
        ones: trajectories of one step right before the one that begins.
        num_steps: of every trajectory, as declared or prepared.
    """
    if num_steps is None:
        return
    if end is not None and end[0] != num_steps:
        _warn(
            f"The last trajectory took {end[0]} of num_steps={num_steps} steps; its schedule was for all.\n"
            f"  Pass num_steps={end[0]} to optimize if the sampler takes them; reset() after a run broken off."
        )
    if ones == _MANY_ONES and num_steps > 1:
        _warn(
            f"{ones} trajectories in a row had one step alone, of num_steps={num_steps}: every call is computed.\n"
            "  If these are steps of one run, the timestep does not change where it is looked for: pass\n"
            "  optimize(..., timestep_name=) the argument that holds it, as a tensor."
        )


class EndedAlikeError(TrajectoryError):
    """Two trajectories in a row fell short of their number of steps in the same way: that is no accident."""


def ended_alike(steps: int, num_steps: int | None, unnamed: int, expected: int | None) -> EndedAlikeError:
    """Return the error for a second trajectory in a row of `steps` steps, `unnamed` calls in the last, as the first."""
    lack = f", with {unnamed} of {expected} calls without a cache_context in the last one" if expected else ""
    return EndedAlikeError(
        f"Two trajectories in a row fell short in the same way, at step {steps - 1}.\n"
        f"  where: {steps} steps of num_steps={num_steps}{lack}\n"
        f"  Pass optimize(..., num_steps={steps}) if the sampler takes so many. If guidance ends there, open\n"
        "  a cache_context for each pass. If both runs were broken off, begin this one again: it is told once."
    )


def steps_left(information: Mapping[str, object]) -> int | None:
    """Return how many steps a pipeline still has, this one included, if its `cache_context` says so."""
    total, index = information.get("num_inference_steps"), information.get("step_index")
    return total - index if type(total) is int and type(index) is int else None


def check_left(left: int | None, num_steps: int | None) -> None:
    """Raise TrajectoryError when a trajectory of `num_steps` begins where a pipeline has fewer steps left."""
    if left is None or num_steps is None or left >= num_steps:
        return
    raise TrajectoryError(
        f"A trajectory of num_steps={num_steps} begins, and the pipeline has {left} steps left.\n"
        "  where: num_inference_steps and step_index of its cache_context\n"
        f"  Pass optimize(..., num_steps={left}) if the sampler takes so many. Where two transformers share a run\n"
        "  (Wan 2.2), num_steps of each is the number of timesteps on its side of the boundary."
    )


def _warn(text: str) -> None:
    warnings.warn(text, ShortTrajectoryWarning, stacklevel=4)
