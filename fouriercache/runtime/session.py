"""What to do at each call of the denoiser: compute or reuse, and with which coefficients. No tensors, no torch.

The features themselves live outside, in one ring for each pass. The session knows which steps each ring holds and
says when the rings must go.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache, partial
from typing import Literal, NamedTuple, TypeAlias

from fouriercache.errors import MethodError
from fouriercache.predictors import Coefficients, Grams, Predictor, check_length
from fouriercache.runtime.call import StepCall, Timestep, changed_signature, check_calibrated, show_timestep
from fouriercache.runtime.clock import Clock, Direction, PassKey, Position
from fouriercache.runtime.coefficients import extended, padded_coefficients, without_products, without_whole_steps
from fouriercache.runtime.coming import MOST_LISTED, runs_on, whole_runs
from fouriercache.runtime.served import by_site, checked_tokens, serve_step
from fouriercache.schedules import Decision, Place, Schedule, TokenCounts

__all__ = ["Clock", "Measure", "Plan", "Position", "Session", "StepCall"]

Measure: TypeAlias = Callable[[PassKey], float]
"""Says how far the indicator of a pass has moved since its last step."""


class Plan(NamedTuple):
    """How one call is served.

    `coefficients` has K scalars for each band of each site ([sites][bands][K], one site stands for all), the one for
    the newest feature first, 0.0 where none is read; all 0.0 in mode "compute". `computed` holds the steps that the
    pass's ring holds before the call, oldest first, at most K. With `drop_history`, the rings of all passes belong to
    an older trajectory: none may be read, and all must go when the call has succeeded. `signature` is the call's.
    `decision` is the schedule's, or, where the pass has nothing to reuse, what stands for it. In a mode other than
    "compute", `refreshed` has the positions of the sites that are computed all the same, and `counts` the number of
    tokens that each site computes afresh; () when there are none at all. `listed` is the call's.
    """

    mode: Literal["compute", "reuse", "partial"]
    position: Position
    coefficients: Coefficients
    computed: tuple[int, ...]
    drop_history: bool
    signature: Hashable
    decision: Decision
    refreshed: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    listed: Callable[[], Timestep] = tuple


class _History(NamedTuple):
    """What is known of one pass in this trajectory: its computed steps, what was decided, its calls' signature.

    `parts` has the steps at which only some sites were computed, and which. `grams` are the inner products of the
    features in its ring, () if the predictor does not ask for them.
    """

    computed: tuple[int, ...]
    decisions: tuple[Decision, ...]
    signature: Hashable
    parts: tuple[tuple[int, tuple[int, ...]], ...] = ()
    grams: Grams = ()


class Session:
    """One request's way through its trajectories.

    Each call is `plan`ned, then run by whoever holds the tensors, then `commit`ted. A call that fails in between
    leaves the session as it was. A session serves one thread; another thread gets another session.

    A pass whose ring is empty is computed whatever the schedule says; that is the first step of a trajectory and the
    first call of a pass that begins late. `num_steps`, `passes_per_step` and `direction` are described at Clock.
    `timesteps` are those the method was calibrated with, if it was: a call at others is refused.

    Raises MethodError when the schedule needs the number of steps and has none, the predictor is made for another
    number, or an argument makes no sense.
    """

    def __init__(
        self,
        schedule: Schedule,
        predictor: Predictor,
        num_steps: int | None = None,
        passes_per_step: int | None = None,
        direction: Direction = "down",
        timesteps: tuple[float, ...] | None = None,
        tokens: TokenCounts | None = None,
    ) -> None:
        if schedule.needs_num_steps and num_steps is None:
            raise MethodError(
                f"The schedule {schedule.name!r} needs the number of steps of a trajectory, and it is not known.\n"
                f"  where: {schedule!r}\n"
                "  Pass optimize(..., num_steps=) the scheduler's number of steps."
            )
        self._clock = Clock(num_steps, passes_per_step, direction)
        self._direction: Direction = direction
        schedule.steps(num_steps)  # a schedule that does not fit the number of steps raises here, not in mid-trajectory
        check_length(predictor, num_steps)
        self._schedule, self._predictor = schedule, predictor
        self._site_schedule = by_site(schedule)
        self._timesteps = timesteps
        self._tokens = checked_tokens(tokens, predictor, num_steps)
        self._none: Coefficients = (((0.0,) * predictor.history,) * (len(predictor.edges) + 1),)
        self._history, self._needs_gram = predictor.history, predictor.needs_gram
        # the same questions come back in every trajectory, but for those about its own features; the bound keeps a
        # long-lived session small
        self._coefficients = lru_cache(0 if predictor.needs_gram else 1024)(partial(padded_coefficients, predictor))
        self._histories: dict[PassKey, _History] = {}

    @property
    def num_steps(self) -> int | None:
        """The number of steps of a trajectory: as prepared, or as declared; None if unknown."""
        return self._clock.num_steps

    @property
    def computed(self) -> dict[PassKey, tuple[int, ...]]:
        """The steps of this trajectory that were computed so far, for each pass."""
        return {key: history.computed for key, history in self._histories.items()}

    @property
    def decisions(self) -> dict[PassKey, tuple[Decision, ...]]:
        """What was decided about the steps of this trajectory so far, for each pass; {} if nothing is measured."""
        if self._schedule.indicator is None:
            return {}
        return {key: history.decisions for key, history in self._histories.items()}

    def begin(self, call: StepCall) -> tuple[Position, _History | None]:
        """Return where the call stands, and what its pass has behind it; raises as `plan` does, and changes as much."""
        position = self._clock.ask(call)
        if self._timesteps is not None:
            check_calibrated(position.step, position.timestep, self._timesteps)
        history = None if position.is_new_trajectory else self._histories.get(position.pass_key)
        if history is not None and history.signature != call.signature:
            where = f"step {position.step}, timestep {show_timestep(position.timestep)}, pass {position.pass_key!r}"
            raise changed_signature(history.signature, call.signature, where)
        return position, history

    def plan(self, call: StepCall, measure: Measure | None = None, places: Sequence[Place] = ()) -> Plan:
        """Say how `call` is served, given where the model's sites stand. Changes nothing but what Clock.ask forgets.

        `measure` is asked at most once, and only by a schedule that has an indicator.

        Raises TrajectoryError when the call fits no trajectory, or its signature is not that of its pass's last call;
        MethodError when the schedule needs a measure and there is none, CalibrationError when its timestep is not the
        one that the method was calibrated with.
        """
        position, history = self.begin(call)
        is_new = position.is_new_trajectory
        if history is None:
            decision = Decision(position.step, is_computed=True)
            return Plan("compute", position, self._none, (), is_new, call.signature, decision)
        computed = history.computed
        ring = computed[-self._history :]
        decision = self._schedule.decide(
            position.step,
            self._clock.num_steps,
            history.decisions[-1],
            partial(measure or _refuse_to_measure, position.pass_key),
        )
        if decision.is_computed:
            return Plan("compute", position, self._none, ring, is_new, call.signature, decision)
        return self._plan_cached(call, position, history, decision, ring, places)

    def _plan_cached(
        self,
        call: StepCall,
        position: Position,
        history: _History,
        decision: Decision,
        ring: tuple[int, ...],
        places: Sequence[Place],
    ) -> Plan:
        step = position.step
        served = serve_step(self._site_schedule, self._tokens, step, self._clock.num_steps, places)
        coefficients = self._cached_coefficients(history, step, len(places))
        return Plan(
            served.mode,
            position,
            coefficients,
            ring,
            False,
            history.signature,
            decision,
            served.refreshed,
            served.counts,
            call.listed,
        )

    def _cached_coefficients(self, history: _History, step: int, sites: int) -> Coefficients:
        """The coefficients, a row for each site where sites were computed at different steps."""
        if not history.parts:
            return self._coefficients(history.computed, step, history.grams)
        if self._needs_gram:
            raise without_whole_steps(step)
        rows = []
        for site in range(sites):
            own = [part for part, computed in history.parts if site in computed]
            table = self._coefficients(tuple(sorted((*history.computed, *own))), step, ())
            rows.append(table[site] if len(table) > 1 else table[0])
        return tuple(rows) if len(set(rows)) > 1 else (rows[0],)

    def timesteps_ahead(self, plan: Plan, *, is_restless: bool = False) -> list[float]:
        """Return the timesteps that `plan.mode` will serve from here on, this one first; [] if they are not known.

        Where only the run shows which those are, all of them: half of a batch for nothing costs less than a run for
        each step. Those of the last trajectory are no substitute: a batch rounds differently, so the second of two
        equal runs would differ from the first, and nobody asked for that.

        Those of a sampler's list go to cached steps alone, so that computed ones stay the model's own to the bit; a few
        at once, and none where the conditioning `is_restless`.
        """
        is_prepared, step = bool(self._clock.prepared), plan.position.step
        if plan.refreshed:  # a mode with sites of its own serves few steps
            return []
        if not is_prepared and (plan.mode == "compute" or is_restless):
            return []
        rest = self._rest(plan)
        computed = self._schedule.steps(step + len(rest)) if rest else None
        is_computed = plan.mode == "compute"
        mine = [at for at in range(len(rest)) if computed is None or (step + at in computed) == is_computed]
        return [rest[at] for at in (mine if is_prepared else whole_runs(mine, MOST_LISTED))]

    def _rest(self, plan: Plan) -> Timestep:
        """The timesteps from the plan's on: as prepared, else as a list that fits has them; () if not known."""
        prepared, step, num_steps = self._clock.prepared, plan.position.step, self._clock.num_steps
        if prepared or num_steps is None:
            return prepared[step:]
        listed = plan.listed()
        return listed if runs_on(listed, num_steps - step, self._direction) else ()

    def following(self, plan: Plan, most: int) -> list[tuple[int, float, Coefficients]]:
        """Return step, timestep and coefficients of the cached steps from here to the next that is computed.

        At most `most`; [] where it is not known which they are, or that nothing of what is kept changes between them:
        no timesteps are known, the schedule decides as it runs or tells sites apart, or tokens are chosen.
        """
        step = plan.position.step
        is_plain = self._site_schedule is None and self._tokens is None and plan.mode == "reuse"
        rest = self._rest(plan) if is_plain else ()
        computed = self._schedule.steps(step + len(rest)) if rest else None
        if computed is None:
            return []
        end = min((other for other in computed if other > step), default=step + len(rest))
        end = min(end, step + most)
        history = self._histories[plan.position.pass_key]
        return [(at, rest[at - step], self._cached_coefficients(history, at, 0)) for at in range(step, end)]

    def commit(self, plan: Plan, products: Sequence[Sequence[float]] = ()) -> None:
        """Take over `plan`, now that the call has succeeded.

        `products` are asked for after a computed step by a predictor with `needs_gram`: for each site, the inner
        products of the newest feature with itself and with each older one in the ring, newest first.

        Raises TrajectoryError when another call was committed since it was planned, MethodError when products are asked
        for and there are none.
        """
        if self._needs_gram and plan.mode == "compute" and not products:
            raise without_products(plan.position.step)
        self._clock.commit(plan.position)
        if plan.drop_history:
            self._histories.clear()
        history = self._histories.get(plan.position.pass_key, _History((), (), plan.signature))
        computed = (*history.computed, plan.position.step) if plan.mode == "compute" else history.computed
        # where nothing is measured there is nothing to tell of them, and the last one is enough
        earlier = history.decisions if self._schedule.indicator is not None else ()
        decisions = (*earlier, plan.decision)
        parts = (*history.parts, (plan.position.step, plan.refreshed)) if plan.refreshed else history.parts
        grams = extended(history.grams, products, self._history) if products else history.grams
        self._histories[plan.position.pass_key] = _History(computed, decisions, plan.signature, parts, grams)

    def reset(self) -> None:
        """Forget trajectory, prepared timesteps, how runs ended, and what the predictor answered.

        The holder of the tensors drops all rings.
        """
        self._clock.reset()
        self._histories.clear()
        self._coefficients.cache_clear()

    def prepare(self, timesteps: Sequence[float]) -> None:
        """Fix the timesteps of the trajectories to come, and begin a new one: the holder drops all rings.

        Raises TrajectoryError when the list makes no sense (Clock.prepare says when), MethodError when schedule or
        predictor do not fit its length. The session is then as it was.
        """
        values = tuple(timesteps)
        if values:
            self._schedule.steps(len(values))
            check_length(self._predictor, len(values))
        self._clock.prepare(values)
        self._histories.clear()


def _refuse_to_measure(key: PassKey) -> float:
    raise MethodError(
        "The schedule depends on how far an indicator moved, and nothing here measures it.\n"
        f"  where: pass {key!r}\n"
        "  Let optimize() build the model: it adds the graph that measures."
    )
