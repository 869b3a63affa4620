"""Which way a timestep moves and how far, and what is refused of that."""

from __future__ import annotations

from fouriercache.errors import TrajectoryError
from fouriercache.runtime.call import StepCall, Timestep, show_timestep

_FAR = 1.5
"""Strides of the step before that are a jump. Schedules change their stride slowly; few of them ever reach this."""


def movement(before: Timestep, after: Timestep) -> int:
    """Return -1 if every value falls or stays, 1 if every value rises or stays, else 0. One value stands for all.

    A value may stay while others move: image-to-video models give the frame they are shown timestep 0 throughout.
    Different numbers of values give 0.
    """
    if len(before) == len(after) == 1:
        return -1 if after[0] < before[0] else 1
    length = max(len(before), len(after))
    before = before * length if len(before) == 1 else before
    after = after * length if len(after) == 1 else after
    if len(before) != len(after):
        return 0
    pairs = list(zip(before, after, strict=True))
    if all(new <= old for old, new in pairs):
        return -1
    return 1 if all(new >= old for old, new in pairs) else 0


def stride(before: Timestep, after: Timestep) -> float:
    """Return how far the timestep moved: the largest way of any of its values. One value stands for all."""
    if len(before) == len(after) == 1:
        return abs(after[0] - before[0])
    length = max(len(before), len(after))
    before, after = (values * length if len(values) == 1 else values for values in (before, after))
    return max(abs(new - old) for old, new in zip(before, after, strict=True))


def check_jump(call: StepCall, before: Timestep, now: Timestep, far: float, usual: float | None) -> None:
    """Raise TrajectoryError when the timestep jumps to `now` and the sample is not the one that was on its way.

    Args:
        call: asked whether its sample continues the last one, if there is a jump; no other time, as it costs.
        before: the timestep of the step before.
        far: the stride from there.
        usual: the stride to be expected; None if nothing is known, and then nothing is a jump.
    """
    if usual is None or far <= _FAR * usual or call.continues():
        return
    raise TrajectoryError(
        "The timestep jumps and the sample is another one, so a new run seems to have begun.\n"
        f"  where: timestep {show_timestep(now)} after {show_timestep(before)}, strides of {usual:g} expected\n"
        "  If one run was broken off and another begins further along, reset() between them. If the sampler jumps\n"
        "  there, prepare(timesteps): steps are then told by their timesteps alone."
    )


def gone_back(first: Timestep, before: Timestep, now: Timestep, step: int, moved: int, forward: int) -> TrajectoryError:
    """Return the error for a timestep that moves against its trajectory, and neither to its first nor beyond.

    Args:
        first, before, now: timesteps of the first step, of the last one and of this call. step: the last one.
        moved: as `movement` has it, from `before` to `now`. forward: the same for the trajectory.
    """
    turn, word, opposite = ("up", "falls", "up") if forward < 0 else ("down", "rises", "down")
    if moved == 0:
        what = "The timesteps of one batch move in different directions, or their number changed."
        todo = "Let all of them move the same way or stay; reset() before a new trajectory."
    elif step == 0:
        what = f"The timestep goes {turn} after the first step of a trajectory that {word}."
        todo = f'If it runs so, pass optimize(..., direction="{opposite}"); if a new one begins, reset() before it.'
    else:
        what = f"The timestep goes {turn} in mid-trajectory, and not back to the first."
        todo = "If a new trajectory begins, reset() before it, or pass optimize(..., num_steps=)."
    where = f"timestep {show_timestep(now)} after step {step}, timestep {show_timestep(before)}"
    return TrajectoryError(f"{what}\n  where: {where}; the first was {show_timestep(first)}\n  {todo}")
