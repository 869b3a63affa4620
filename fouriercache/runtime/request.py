"""One request's state: which step it is at, and the features and hoisted values it holds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from fouriercache.calls import Call
from fouriercache.errors import TrajectoryError
from fouriercache.preconditions import check_filled, refuse_second_cache
from fouriercache.runtime.call import StepCall, read_timesteps
from fouriercache.runtime.check_finite import FiniteCheck
from fouriercache.runtime.clock import PassKey
from fouriercache.runtime.conditioning import Hoisted, bytes_of
from fouriercache.runtime.endings import check_left, steps_left
from fouriercache.runtime.far import Stamps
from fouriercache.runtime.pass_state import PassState
from fouriercache.runtime.probe import Look
from fouriercache.runtime.prompt import check_answers
from fouriercache.runtime.session import Position, Session
from fouriercache.runtime.stand_in import StandIn
from fouriercache.runtime.stepper import InputNames
from fouriercache.runtime.trajectory import Serve, Trajectory, forget_other_conditioning
from fouriercache.runtime.untraced import check_untraced, untraced
from fouriercache.schedules import Decision

_OF_MODULES = frozenset(name for name in dir(nn.Module) if "hook" not in name)
"""What every module has: `to`, `train`, `state_dict`. Not hooks, as a session's calls run those of the model alone."""


class Request(StandIn):
    """One request's own state; call it like the model. One thread at a time; other threads take other requests.

    Gradients flow through the step that is called, not through the features kept of earlier ones.

    Attributes that it lacks are the model's own, read and set, and for `isinstance` it is of the model's class, for
    pipelines' sake; see `StandIn`. What every module has (`to`, `load_state_dict`) is done by the module that made it,
    in the model and so for all sessions.

    Made by `fast.new_session()`; `fast(...)` itself uses one of its own for each thread.
    """

    def __init__(self, session: Session, model: nn.Module, front: nn.Module,
                 serve: Serve, flatten: Callable[[Sequence[Any], Mapping[str, Any]], tuple[Call, dict[str, Any]]],
                 *, check_finite: bool) -> None:  # fmt: skip
        self._session = session
        self._front = front
        self._serve = serve
        self._flatten = flatten
        self._finite = FiniteCheck(check_finite)
        self._stamps = Stamps()
        self._trajectory = Trajectory()
        self._context: str | None = None
        self._left: int | None = None
        self._prepared: tuple[float, ...] = ()
        self._running = threading.Lock()
        self._stand_for(model)

    def _owner_of(self, name: str) -> object:
        return self._front if name in _OF_MODULES else self._model

    def __reduce__(self) -> tuple[Any, ...]:
        raise TrajectoryError(
            "a session cannot be copied or pickled: it holds the features of a running trajectory.\n"
            "  Make another of the same optimised module: fast.new_session()."
        )

    enable_cache = staticmethod(refuse_second_cache)

    @untraced
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run one step; see `forward`, around which others may put hooks."""
        return self.forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model's step: computed or predicted, as the schedule says.

        Raises:
            TrajectoryError: the call does not fit the trajectory, or a result is not finite: its own, on a GPU maybe
                that of an earlier step.
            CaptureError: the call needs a new capture and the model cannot be captured; or it is traced.
        """
        check_untraced("a session", "It runs in the loop around what is exported; see fouriercache.export.")
        if not self._running.acquire(blocking=False):
            raise TrajectoryError(
                "this session is in the middle of another call, from another thread.\n"
                "  A session serves one request: give each thread its own, fast.new_session()."
            )
        try:
            return self._call(args, kwargs)
        finally:
            self._running.release()

    def _call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        self._check_answers(wait=False)
        call, arguments = self._flatten(args, kwargs)
        self._check_form(call)
        trajectory = self._trajectory
        kept = trajectory.find(call)
        stepper, source = kept or self._serve(call, arguments)
        named = stepper.names.named(call)
        asked, sample, conditioning = self._asked(stepper.names, call)
        stamp, looks = asked.timestep, list[Look]()

        def look(state: PassState, *, is_compared: bool) -> None:
            forget_other_conditioning(state, stepper.names, conditioning, is_prepared=bool(self._prepared))
            if stepper.probe is not None:
                hoisted = state.hoisted.setdefault("probe", Hoisted())
                looks.append(stepper.look(named, hoisted, stamp, self._prepared, state.states, is_compared=is_compared))

        def measure(key: PassKey) -> float:
            trajectory.check(source)
            look(trajectory.state(key, stepper), is_compared=True)
            assert looks[0].distance is not None
            return looks[0].distance

        plan = self._session.plan(asked, measure, stepper.places)
        if plan.position.is_new_trajectory:
            self._check_answers(wait=True)
            check_left(self._left, self.num_steps)
            if kept is not None:  # the model may be another since, or a weight changed through `.data`
                stepper, source = self._serve(call, arguments)
                named = stepper.names.named(call)
                asked, sample, conditioning = self._asked(stepper.names, call)
            trajectory = Trajectory(source)
        trajectory.check(source)
        state = trajectory.state(plan.position.pass_key, stepper)
        check_answers(state.questions, stepper.questions)
        if not looks:
            look(state, is_compared=False)
        outcome = stepper.run(plan, named, state, stamp, self._session)
        self._finite.look(outcome.results, sample[0], plan)
        self._check_answers(wait=plan.position.step + 1 == self.num_steps)
        products = stepper.products(outcome.values, state.ring) if plan.mode == "compute" else ()
        self._session.commit(plan, products)
        trajectory.commit(plan, state, outcome, stepper, sample)
        state.states.update({name: value for found in looks for name, value in found.states.items()})
        trajectory.last = call.paths, asked.signature, stepper.names
        self._trajectory = trajectory
        return stepper.rebuild(outcome.results)

    def _check_form(self, call: Call) -> None:
        """Refuse what the running trajectory cannot take before it is captured; the timestep stands where it stood."""
        last = self._trajectory.last
        if last is not None and last[0] == call.paths and last[1] != call.form:
            roles = {last[2].stamp, *last[2].sample}
            leaves = zip(last[2].all, call.paths, call.tensors, strict=True)
            check_filled((path, tensor) for name, path, tensor in leaves if name in roles)
            self._session.begin(self._asked(last[2], call)[0])

    def _asked(self, names: InputNames, call: Call) -> tuple[StepCall, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """What the session must know of a call; its samples, its conditioning."""
        named, trajectory = names.named(call), self._trajectory
        stamp, sample = named[names.stamp], tuple(named[name] for name in names.sample)
        conditioning = tuple(named[name] for name in names.conditioning)
        asked = StepCall(
            timestep=self._stamps.read(stamp),
            context=self._context,
            signature=call.form,
            same_sample=lambda: trajectory.is_last_sample(sample),
            same_conditioning=lambda: trajectory.is_last_conditioning(conditioning),
            continues=lambda: trajectory.may_continue(0 if self._context is None else self._context, sample),
            listed=lambda: self._stamps.coming(stamp),
        )
        return asked, sample, conditioning

    def prepare(self, timesteps: Sequence[float] | Tensor) -> None:
        """Fix the timesteps of the trajectories to come.

        Each trajectory's conditioning subgraph then runs for all its steps in one batch, at its first call; a call at
        any other timestep is refused. Results differ from those without `prepare` by the rounding of a larger matrix
        product.

        Args:
            timesteps: as the model receives them, in order; `scheduler.timesteps` for most pipelines, the same divided
                by 1000 for FLUX.

        Raises:
            TrajectoryError: this is no list of numbers, or it is empty, not finite, or not `num_steps` long.
        """
        given = timesteps.detach().reshape(-1).tolist() if isinstance(timesteps, Tensor) else timesteps
        prepared = read_timesteps(given)
        self._session.prepare(prepared)
        self._forget()
        self._prepared = prepared

    def reset(self) -> None:
        """Forget the trajectory, its features and prepared timesteps; the next call begins a new one."""
        self._session.reset()
        self._forget()
        self._prepared, self._stamps = (), Stamps()

    def _check_answers(self, *, wait: bool) -> None:
        """Raise what a GPU has said of earlier results, and forget their trajectory; timesteps stay prepared."""
        if error := self._finite.answered(wait=wait):
            prepared = self._prepared
            self.reset()
            if prepared:
                self.prepare(prepared)
            raise error

    def _forget(self) -> None:
        self._trajectory = Trajectory()
        self._finite.clear()

    @contextmanager
    def cache_context(self, name: str, **information: object) -> Iterator[None]:
        """Name the pass that calls inside belong to, as diffusers' pipelines do: "cond", "uncond".

        Some pipelines also say where their loop is (`step_index`, `num_inference_steps`). A trajectory that begins
        where fewer steps are left than `num_steps` is refused. Steps are told by the calls' own timesteps all the same:
        with two models in one loop the pipeline's numbers are not those of either model.

        Raises:
            TrajectoryError: the name is no string.
        """
        if not isinstance(name, str):
            raise TrajectoryError(f'cache_context takes a name, got {name!r}.\n  Name the pass: "cond", "uncond".')
        before = self._context, self._left
        self._context, self._left = name, steps_left(information)
        try:
            yield
        finally:
            self._context, self._left = before

    @property
    def position(self) -> Position | None:
        """Where the last call stood: step, pass, and whether it began a trajectory; None before the first call."""
        return self._trajectory.position

    @property
    def features(self) -> dict[PassKey, dict[str, Tensor]]:
        """The newest kept value of each site, by its name, for each pass."""
        return {
            key: {name: kept[0] for name, kept in state.ring.items()} for key, state in self._trajectory.passes.items()
        }

    @property
    def num_steps(self) -> int | None:
        """Steps of a trajectory, as declared or prepared."""
        return self._session.num_steps

    @property
    def computed_steps(self) -> dict[PassKey, tuple[int, ...]]:
        """The steps of this trajectory that ran in full so far, for each pass: what was done, not what was planned."""
        return self._session.computed

    @property
    def decisions(self) -> dict[PassKey, tuple[Decision, ...]]:
        """What an adaptive schedule decided about the steps of this trajectory so far, and by what, for each pass."""
        return self._session.decisions

    @property
    def cache_bytes(self) -> int:
        """Bytes of features held now: what other caches mean by their size."""
        return bytes_of(tensor for state in self._trajectory.passes.values() for tensor in state.features())

    @property
    def held_bytes(self) -> int:
        """Bytes of everything held now: features, hoisted values, and copies made to notice a change."""
        states = self._trajectory.passes.values()
        held = [tensor for state in states for tensor in state.features()]
        held += [tensor for state in states for hoisted in state.hoisted.values() for tensor in hoisted.tensors()]
        held += [tensor for found in self._trajectory.remembered() for tensor in found.copies()]
        return bytes_of(held)
