"""Which step, pass and trajectory a call of the denoiser belongs to. Plain values, no tensors, no torch.

A trajectory is one run of the sampler, a step one timestep of it, counted from 0. A pass is one of the calls of a
step: samplers that guide with separate calls make several, and each pass has features of its own. A call inside a
`cache_context` names its pass; calls without one are unnamed and told apart by their order in the step.

Nothing announces a trajectory, so it is read off the calls:

* another timestep, in the trajectory's direction: the next step;
* the same timestep in a new context, or with the same sample and other conditioning: another pass of the step;
* the same timestep otherwise: at step 0 a run begun again, later refused, unless `passes_per_step=1` says that a
  timestep may stand twice (second-order samplers);
* the first timestep or one beyond it, or anything but a continuation after `num_steps` steps: a new trajectory;
* a timestep that jumps, with a sample that does not continue the last one: refused, a run was broken off;
* whatever is left: refused, as cached features would be wrong for it.

Three things the calls cannot show; `reset` between such runs. A run broken off and followed by one that begins where
the next step would have been, or further along with a sample like its last, looks like one run. A run broken off in its
first step, then begun again with the same sample and other conditioning, looks like one more pass, and is refused when
the second step ends without that pass. A context that the broken first step had, and the new run has from its second
step on, looks as if it had been there all along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from fouriercache.checks import check_choice, check_whole
from fouriercache.errors import TrajectoryError
from fouriercache.runtime.call import StepCall, Timestep, check_timestep, check_trajectory, show_timestep, unprepared
from fouriercache.runtime.endings import EndedAlikeError, ended_alike, warn_of_endings
from fouriercache.runtime.moves import check_jump, gone_back, movement, stride

PassKey: TypeAlias = int | str
Direction: TypeAlias = Literal["down", "up"]


class _Place(NamedTuple):
    """Where a trajectory stands after a call: a value, so that a call that fails later has changed nothing."""

    first: Timestep
    now: Timestep
    step: int
    unnamed: int  # calls without a context at this step
    expected: int | None  # calls without a context that a step must have; None while step 0 teaches it
    seen: tuple[str, ...]  # contexts of this step
    before: tuple[str, ...]  # contexts of the step before
    known: frozenset[str]  # contexts of this trajectory
    last_end: tuple[int, int] | None  # steps, and unnamed calls in the last of them, if the last trajectory fell short
    ones: int  # trajectories of one step right before this one
    stride: float | None  # how far the last step moved that did, or the first is expected to; None if unknown


@dataclass(frozen=True, slots=True)
class Position:
    """Where a call stands: its step, its pass (number, or name of its context), and whether a trajectory begins.

    `before` and `after` are for the Clock alone.
    """

    step: int
    pass_key: PassKey
    is_new_trajectory: bool
    before: _Place | None = field(repr=False, compare=False)
    after: _Place = field(repr=False, compare=False)

    @property
    def timestep(self) -> Timestep:
        """The step's timestep, one value if it is the same for the whole batch."""
        return self.after.now


class Clock:
    """Reads step, pass and trajectory off the calls it is told of: `begin` answers and changes nothing, `commit` takes
    the answer over once the call has succeeded.

    `num_steps` is the number of steps of every trajectory, None if unknown. `passes_per_step` is how many unnamed
    calls make a step, None to learn it from step 0; with 1, every call of one pass is a new step, at an equal timestep
    too. `direction` is "down" when timesteps fall, "up" when they rise.

    Warns with ShortTrajectoryWarning when the trajectory before fell short of `num_steps`, or several had one step
    alone; two that fall short alike are refused.
    Raises MethodError when one of the three makes no sense.
    """

    def __init__(
        self, num_steps: int | None = None, passes_per_step: int | None = None, direction: Direction = "down"
    ) -> None:
        if num_steps is not None:
            check_whole("optimize", "num_steps", num_steps, least=1, advice="It is the scheduler's number of steps.")
        if passes_per_step is not None:
            advice = "It is how many times the sampler calls the model at one step."
            check_whole("optimize", "passes_per_step", passes_per_step, least=1, advice=advice)
        check_choice("optimize", "direction", direction, ("down", "up"))
        self._declared_steps = num_steps
        self._passes = passes_per_step
        self._forward = -1 if direction == "down" else 1
        self._prepared: Timestep = ()
        self._place: _Place | None = None

    @property
    def num_steps(self) -> int | None:
        """The number of steps of a trajectory: as prepared, or as declared; None if unknown."""
        return len(self._prepared) or self._declared_steps

    @property
    def prepared(self) -> Timestep:
        """The timesteps of every trajectory, as prepared; () if they are not known."""
        return self._prepared

    def reset(self) -> None:
        """Forget everything but the arguments of the constructor: trajectory, prepared timesteps, how runs ended."""
        self._place = None
        self._prepared = ()

    def prepare(self, timesteps: Sequence[float]) -> None:
        """Fix the timesteps of the trajectories to come, in any order, and begin a new one.

        Raises TrajectoryError, and changes nothing, when the list is empty or not finite, its length is not
        `num_steps`, its first value stands in it again (a new trajectory could not be told from that step), or
        neighbours are equal without `passes_per_step=1`.
        """
        self._prepared = check_trajectory(timesteps, self._declared_steps, is_equal_allowed=self._passes == 1)
        self._place = None

    def begin(self, call: StepCall) -> Position:
        """Return where `call` stands. Changes nothing.

        Raises TrajectoryError when the call fits no trajectory.
        """
        now = check_timestep(call.timestep)
        place = self._place
        if place is None:
            if self._prepared and now != self._prepared[:1]:
                raise unprepared(now, self._prepared, 0)
            return self._enter_trajectory(call, now)
        if now == place.now:
            return self._enter_same_timestep(call, place)
        if self._prepared:
            return self._enter_prepared_step(call, now, place)
        moved = movement(place.now, now)
        if moved == self._forward:
            return self._enter_next_step(call, now, place)
        is_at_first = now == place.first or movement(place.first, now) == -self._forward
        if place.step + 1 == self._declared_steps or (is_at_first and place.step > 0):
            return self._enter_trajectory(call, now)
        raise gone_back(place.first, place.now, now, place.step, moved, self._forward)

    def ask(self, call: StepCall) -> Position:
        """Return what `begin` answers. That two runs fell short alike is said once: both are then forgotten.

        Two that were broken off are then followed by a whole one, and a wrong number of steps is told again.
        """
        try:
            return self.begin(call)
        except EndedAlikeError:
            self._place = None
            raise

    def commit(self, position: Position) -> None:
        """Take over what `begin` answered, now that the call has succeeded.

        Raises TrajectoryError when another call was committed in between.
        """
        if position.before is not self._place:
            raise TrajectoryError(
                "Another call of the same session was made while this one ran.\n"
                f"  where: {_show_step(position.after)}, pass {position.pass_key!r}\n"
                "  Give each thread and each request a session of its own: session = fast.new_session()."
            )
        if position.is_new_trajectory:
            was = position.before.step if position.before else 0
            warn_of_endings(position.after.last_end if was else None, position.after.ones, self.num_steps)
        self._place = position.after

    def _enter_same_timestep(self, call: StepCall, place: _Place) -> Position:
        name = call.context
        is_new_pass = place.unnamed == 0 if name is None else name not in place.seen
        if is_new_pass:
            return self._enter_pass(call, place)
        if place.step == 0:
            if name is None and call.same_sample() and not call.same_conditioning():
                return self._enter_pass(call, place)
            return self._enter_trajectory(call, place.now)
        if self._passes == 1:
            if self._prepared and place.now != self._prepared[place.step + 1 : place.step + 2]:
                raise unprepared(place.now, self._prepared, place.step + 1)
            return self._enter_next_step(call, place.now, place)
        where = f"{_show_step(place)}, cache_context {name!r}"
        if not call.same_sample():
            raise TrajectoryError(
                f"The same timestep came twice, with two different samples.\n  where: {where}\n"
                "  Second-order schedulers (Heun, KDPM2, PNDM) and timesteps rounded to bf16 do so: pass\n"
                "  optimize(..., passes_per_step=1). For tiles or windows of one sample, open a cache_context for each."
            )
        if name is not None or call.same_conditioning():
            raise TrajectoryError(
                f"The same pass came twice at one timestep.\n  where: {where}\n"
                "  Call the model once for each step and pass, and open a cache_context for each pass where passes\n"
                "  have equal inputs or share a context. If a run was broken off here, reset() before the next one."
            )
        return self._enter_pass(call, place)

    def _enter_prepared_step(self, call: StepCall, now: Timestep, place: _Place) -> Position:
        step = place.step + 1
        if now == self._prepared[step : step + 1]:
            return self._enter_next_step(call, now, place)
        if now == self._prepared[:1]:
            return self._enter_trajectory(call, now)
        raise unprepared(now, self._prepared, step)

    def _enter_trajectory(self, call: StepCall, now: Timestep) -> Position:
        ones = self._place.ones + 1 if self._place and self._place.step == 0 else 0
        even = now[0] / self.num_steps if self.num_steps and self._forward < 0 and now[0] > 0 else None
        place = _Place(now, now, 0, 0, self._passes, (), (), frozenset(), self._last_end(), ones, even)
        return self._enter_pass(call, place, is_new_trajectory=True)

    def _enter_next_step(self, call: StepCall, now: Timestep, place: _Place) -> Position:
        step = place.step + 1
        if step == self.num_steps:
            raise TrajectoryError(
                f"The trajectory goes on after its {step} steps.\n"
                f"  where: timestep {show_timestep(now)} after {show_timestep(place.now)}, num_steps={step}\n"
                "  Pass optimize(..., num_steps=) what the sampler really takes. If a new trajectory begins here,\n"
                "  further along than the last one ended, reset() before it."
            )
        expected = self._passes_of(place)
        far = stride(place.now, now)
        if not self._prepared:
            check_jump(call, place.now, now, far, place.stride)
        return self._enter_pass(
            call,
            _Place(
                place.first, now, step, 0, expected, (), place.seen, place.known, place.last_end, 0, far or place.stride
            ),
        )

    def _enter_pass(self, call: StepCall, place: _Place, is_new_trajectory: bool = False) -> Position:
        name = call.context
        if name is None:
            if place.unnamed == place.expected:
                raise TrajectoryError(
                    f"A step has more calls without a cache_context than its trajectory has passes: {place.expected}.\n"
                    f"  where: call {place.unnamed + 1} of {_show_step(place)}\n"
                    "  Pass the right passes_per_step to optimize. If guidance begins in mid-trajectory, open a\n"
                    "  cache_context for each pass. If a run was broken off before this call, reset() first."
                )
            after = place._replace(unnamed=place.unnamed + 1)
            return Position(place.step, place.unnamed, is_new_trajectory, self._place, after)
        known = place.known
        if name not in known:
            known = known | {name}
        elif name not in place.before:
            raise TrajectoryError(
                f"cache_context {name!r} comes back after steps without it.\n"
                f"  where: {_show_step(place)}\n"
                "  A pass may begin late or end early, not pause: keep it in every step, or use another name."
            )
        after = place._replace(seen=(*place.seen, name), known=known)
        return Position(place.step, name, is_new_trajectory, self._place, after)

    def _passes_of(self, place: _Place) -> int | None:
        """Return how many unnamed calls every later step must have, once `place` has had its last call."""
        if place.step == 0 and (self._passes is None or place.unnamed == 0):
            return place.unnamed
        if place.unnamed != place.expected:
            raise TrajectoryError(
                f"A step ended after {place.unnamed} of {place.expected} calls without a cache_context.\n"
                f"  where: {_show_step(place)}\n"
                "  Which pass was left out cannot be told: open a cache_context for each pass (guidance that ends in\n"
                "  mid-trajectory, passes with equal inputs). If a run was broken off in its first step, reset()."
            )
        return place.expected

    def _last_end(self) -> tuple[int, int] | None:
        """Return how the trajectory that ends now fell short of its steps and passes, None if it did not.

        Raises EndedAlikeError when the one before fell short in the same way: that is no accident.
        """
        place = self._place
        if place is None or self.num_steps is None:
            return None
        if place.step == 0:
            # one step alone is always computed, so its result does not depend on the declared number of steps
            return place.last_end
        steps = place.step + 1
        if steps == self.num_steps and place.unnamed == place.expected:
            return None
        if place.last_end == (steps, place.unnamed):
            raise ended_alike(steps, self.num_steps, place.unnamed, place.expected)
        return steps, place.unnamed


def _show_step(place: _Place) -> str:
    return f"step {place.step}, timestep {show_timestep(place.now)}"
