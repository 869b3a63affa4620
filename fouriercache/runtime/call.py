"""What is known of one call of the denoiser, and its timestep as the key of a step: checked, compared, shown."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isclose, isfinite
from typing import TypeAlias

from fouriercache.errors import CalibrationError, TrajectoryError

Timestep: TypeAlias = tuple[float, ...]

_ROUNDED = 2**-8
"""How far apart, of their size, two timesteps may lie that are one: pipelines round them to bfloat16."""


@dataclass(frozen=True, slots=True)
class StepCall:
    """What must be known of one call of the denoiser.

    `timestep` holds the values of the timestep input, one or more. `context` is the name of the open cache_context.
    `signature` is what may not change in mid-trajectory: shapes, dtypes and device of the inputs. `same_sample` and
    `same_conditioning` compare by value with the last call that was committed, the first the latents, the second every
    input but latents and timestep; different shapes are different. They cost, so they are asked only at a timestep
    that stands twice. `continues`, asked where a timestep jumps, is whether the latents may come of those of the pass's
    last step. `listed` gives the timesteps that a sampler's list has from this one on, () where there is no such list.
    """

    timestep: Timestep
    context: str | None
    signature: Hashable
    same_sample: Callable[[], bool]
    same_conditioning: Callable[[], bool]
    continues: Callable[[], bool]
    listed: Callable[[], Timestep] = tuple


def check_timestep(values: Timestep) -> Timestep:
    """Return the values as a key: one value if all are equal, so that a change of batch alone is no change of step.

    Raises TrajectoryError when there is no value, or one is NaN or infinite.
    """
    if values and isfinite(values[0]) and values.count(values[0]) == len(values):
        return values[:1]
    if not _is_finite(values):
        raise TrajectoryError(
            "The timestep is empty or not finite, so no step can be told from it.\n"
            f"  where: {show_timestep(values)}\n"
            "  Look for NaN or inf in the scheduler's timesteps; pass at least one value."
        )
    return values


def check_trajectory(timesteps: Sequence[float], num_steps: int | None, *, is_equal_allowed: bool) -> Timestep:
    """Return the timesteps of a trajectory, given in advance.

    Raises TrajectoryError when there are none or one is not finite, their number is not `num_steps`, the first stands
    among them again (a new trajectory could not be told from that step), or neighbours are equal and may not be.
    """
    values = tuple(float(value) for value in timesteps)
    if not _is_finite(values):
        fault, todo = "the list is empty or not finite", "Pass the scheduler's timesteps, after set_timesteps."
    elif num_steps not in (None, len(values)):
        fault = f"there are {len(values)} where num_steps={num_steps} was declared"
        todo = f"Pass optimize(..., num_steps={len(values)}), or prepare {num_steps} timesteps."
    elif values[0] in values[1:]:
        fault = f"the first, {values[0]!r}, stands again at step {values.index(values[0], 1)}"
        todo = "A new trajectory could not be told from that step: let the first timestep stand once."
    elif not is_equal_allowed and any(one == other for one, other in pairwise(values)):
        fault = "one stands twice in a row"
        todo = "A second-order scheduler (Heun, say) needs optimize(..., passes_per_step=1)."
    else:
        return values
    raise TrajectoryError(f"These timesteps cannot be prepared: {fault}.\n  where: {show_timestep(values)}\n  {todo}")


def check_calibrated(step: int, timestep: Timestep, timesteps: Sequence[float]) -> None:
    """Raise CalibrationError when the step's timestep is off by more than a thousandth of the largest calibrated."""
    expected = timesteps[step] if step < len(timesteps) else None
    if expected is None or abs(timestep[0] - expected) > 1e-3 * max(map(abs, timesteps)):
        raise CalibrationError(
            f"The method was calibrated with other timesteps than this trajectory has.\n"
            f"  where: step {step}, timestep {show_timestep(timestep)}, calibrated with {expected}\n"
            "  Use the scheduler it was calibrated with, or calibrate with this one. Flow-matching ones may shift\n"
            "  timesteps by the image's size (use_dynamic_shifting), so another size has others: calibrate at it,\n"
            "  or take the steps alone, at any: fc.Tuned(schedule=fc.Table(found.steps))."
        )


def unprepared(now: Timestep, prepared: Timestep, step: int) -> TrajectoryError:
    """Return the error for a call at `now` where `prepared[step]` was prepared, or nothing any more."""
    wanted = show_timestep(prepared[step : step + 1]) if step < len(prepared) else "the end"
    todo = "Prepare the timesteps that the sampler uses, or reset() to go on without."
    if step < len(prepared) and all(isclose(value * 1000, prepared[step], rel_tol=_ROUNDED) for value in now):
        todo = (
            "The model is called with a thousandth of it, as FLUX's pipeline calls its own:\n"
            "  prepare(scheduler.timesteps / 1000)."
        )
    elif step < len(prepared) and all(isclose(value, prepared[step] * 1000, rel_tol=_ROUNDED) for value in now):
        todo = "The model is called with a thousand times it: prepare(scheduler.timesteps), not divided by 1000."
    return TrajectoryError(
        f"A call has timestep {show_timestep(now)} where {wanted} was prepared.\n"
        f"  where: step {step} of the {len(prepared)} prepared\n"
        f"  {todo}"
    )


def read_timesteps(timesteps: object) -> Timestep:
    """Return the timesteps that were given to `prepare`: a tensor, an array or any iterable of numbers, but no string.

    Raises TrajectoryError when it is none of these.
    """
    try:
        if isinstance(timesteps, str | bytes | bytearray | Mapping) or not isinstance(timesteps, Iterable):
            raise TypeError
        values = list(timesteps)
        if any(isinstance(value, str | bytes | bool) for value in values):
            raise TypeError
        return tuple(float(value) for value in values)
    except (TypeError, ValueError):
        raise TrajectoryError(
            f"prepare() needs the timesteps of a trajectory, got {timesteps!r} of type {type(timesteps).__name__}.\n"
            "  Pass the scheduler's timesteps, after set_timesteps: a tensor or a list of numbers, one for each step."
        ) from None


def show_timestep(timestep: Timestep) -> str:
    """Return the values for a message: one as it is, many cut short."""
    if len(timestep) == 1:
        return repr(timestep[0])
    shown = ", ".join(map(repr, timestep[:4]))
    return f"({shown}, ... {len(timestep)} values)" if len(timestep) > 4 else f"({shown})"


def _is_finite(values: Timestep) -> bool:
    return bool(values) and all(map(isfinite, values))


def changed_signature(old: Hashable, new: Hashable, where: str) -> TrajectoryError:
    """Return the error for inputs that changed their form in mid-trajectory, `where` that was."""
    if isinstance(old, tuple) and isinstance(new, tuple) and len(old) == len(new):
        changed = [(was, now) for was, now in zip(old, new, strict=True) if was != now]
    else:
        changed = [(old, new)]
    changes = "\n".join(f"  from {was!r} to {now!r}" for was, now in changed)
    return TrajectoryError(
        f"The inputs changed their batch, shape, dtype or device in mid-trajectory.\n{changes}\n"
        f"  where: {where}\n"
        "  Cached features have the old form: keep it for the whole trajectory, or reset() before a new one."
    )
