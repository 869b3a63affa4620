"""The session against random samplers whose every call is known to belong to a run, a step and a pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fouriercache.errors import TrajectoryError
from fouriercache.predictors import Predictor, Reuse, Taylor
from fouriercache.runtime.session import Plan, Session
from fouriercache.schedules import Interval, Table
from tests.runtime.made_up_sampler import FakeModel, Feature, Inputs

unhurried = settings(deadline=None, max_examples=200)  # the machine may be busy; these tests are about values

TIMESTEPS = (900.0, 700.0, 450.0, 300.0, 120.0, 0.0)

schedules: st.SearchStrategy[Interval | Table] = st.one_of(
    st.builds(Interval, st.integers(1, 4), st.integers(1, 3)),
    st.builds(Interval, st.integers(1, 4), anchor=st.just("last")),
    st.sets(st.integers(1, 5)).map(lambda later: Table((0, *sorted(later)))),
)
predictors: st.SearchStrategy[Predictor] = st.one_of(st.just(Reuse()), st.builds(Taylor, st.integers(0, 3)))


@dataclass(frozen=True)
class Pass:
    """One call of every step from `begin` up to `end`. `name` is its context, or its place among the unnamed calls."""

    name: str | int
    begin: int = 0
    end: int = len(TIMESTEPS)


@dataclass(frozen=True)
class Run:
    """One run of the sampler, broken off after `calls` calls. Calls numbered in `broken` fail and are made again."""

    passes: tuple[Pass, ...]
    seed: int
    prompt: int
    calls: int
    broken: frozenset[int]

    def inputs(self, number: int) -> Iterator[tuple[Feature, Inputs]]:
        """Yield what every call truly is, and what the model sees of it; `number` is the run's own."""
        calls = 0
        for step, timestep in enumerate(TIMESTEPS):
            for one in self.passes:
                if one.begin <= step < one.end and calls < self.calls:
                    calls += 1
                    context = one.name if isinstance(one.name, str) else None
                    inputs = Inputs(
                        timestep,
                        # later samples depend on all that went before; the first only on the seed
                        sample=(self.seed,) if step == 0 else (number, step),
                        conditioning=(self.prompt, one.name),
                        context=context,
                        # texts of different lengths: the signature is the pass's own
                        signature=("latents", "text", one.name),
                    )
                    yield Feature(number, step, one.name), inputs

    @property
    def is_whole(self) -> bool:
        return self.calls >= sum(one.end - one.begin for one in self.passes)


lengths = st.one_of(st.just(99), st.integers(1, 18))
breaks = st.frozensets(st.integers(0, 17), max_size=3)


@st.composite
def named_passes(draw: st.DrawFn) -> tuple[Pass, ...]:
    """The first context is in every step. Others may begin late, not at step 1: a run broken off in its first step may
    have had that context in it, and no input tells of it."""
    begins = st.sampled_from([0, 0, 0, 2, 3, 4])
    ends = st.sampled_from([6, 6, 6, 5])
    later = [Pass(name, draw(begins), draw(ends)) for name in draw(st.permutations("bc"))[: draw(st.integers(0, 2))]]
    return (Pass("a"), *later)


unnamed_passes = st.integers(1, 3).map(lambda count: tuple(map(Pass, range(count))))


def runs_of(passes: st.SearchStrategy[tuple[Pass, ...]], seeds: int, prompts: int) -> st.SearchStrategy[list[Run]]:
    run = st.builds(Run, passes, st.integers(0, seeds), st.integers(0, prompts), lengths, breaks)
    return st.lists(run, min_size=1, max_size=6)


def simulate(model: FakeModel, run: Run, number: int) -> Iterator[tuple[Feature, Plan, list[Feature]]]:
    """Make the run's calls; yield for each what it truly is, its plan and the ring that it read."""
    for call, (truth, inputs) in enumerate(run.inputs(number)):
        if call in run.broken:
            with pytest.raises(MemoryError):
                model(inputs, truth, is_broken=True)
        plan, ring = model(inputs, truth)
        yield truth, plan, ring


def check_exact(runs: Sequence[Run], schedule: Interval | Table, predictor: Predictor) -> None:
    """Check every plan against a simulation that knows the truth and keeps the computed steps of every (run, pass)."""
    num_steps = len(TIMESTEPS) if schedule.needs_num_steps else None
    model = FakeModel(Session(schedule, predictor, num_steps), predictor.history)
    computed: dict[tuple[int, object], list[int]] = {}
    for number, run in enumerate(runs):
        for call, (truth, plan, ring) in enumerate(simulate(model, run, number)):
            assert (plan.position.step, plan.position.pass_key) == (truth.step, truth.name)
            assert plan.drop_history == plan.position.is_new_trajectory == (call == 0)
            steps = computed.setdefault((number, truth.name), [])
            assert ring == [Feature(number, step, truth.name) for step in steps[-predictor.history :]]
            assert plan.computed == tuple(steps[-predictor.history :])
            if not steps or schedule.is_computed(truth.step, num_steps):
                assert plan.mode == "compute"
                steps.append(truth.step)
            else:
                assert plan.mode == "reuse"
                ((expected,),) = predictor.table(steps, truth.step)
                assert plan.coefficients == ((expected + (0.0,) * (predictor.history - len(expected)),),)


@unhurried
@given(runs_of(named_passes(), seeds=1, prompts=1), schedules, predictors)
def test_with_contexts_every_call_is_placed_and_served_right(
    runs: list[Run], schedule: Interval | Table, predictor: Predictor
) -> None:
    check_exact(without_ends_alike(runs, schedule), schedule, predictor)


@unhurried
@given(runs_of(st.just((Pass(0),)), seeds=1, prompts=0), schedules, predictors)
def test_with_one_pass_and_equal_seeds_every_call_is_placed_and_served_right(
    runs: list[Run], schedule: Interval | Table, predictor: Predictor
) -> None:
    check_exact(without_ends_alike(runs, schedule), schedule, predictor)


@unhurried
@given(runs_of(unnamed_passes, seeds=0, prompts=1), schedules, predictors)
def test_without_contexts_and_with_fresh_seeds_every_call_is_placed_and_served_right(
    runs: list[Run], schedule: Interval | Table, predictor: Predictor
) -> None:
    fresh = [Run(run.passes, number, run.prompt, run.calls, run.broken) for number, run in enumerate(runs)]
    check_exact(without_ends_alike(fresh, schedule), schedule, predictor)


def without_ends_alike(runs: list[Run], schedule: Interval | Table) -> list[Run]:
    """Leave out runs that are broken off where the last broken one was: with a number of steps they are refused."""
    kept: list[Run] = []
    ends: set[tuple[int, int]] = set()
    for number, run in enumerate(runs):
        if schedule.needs_num_steps and not run.is_whole:
            truths = [truth for truth, _ in run.inputs(number)]
            last = truths[-1].step
            end = (last, sum(truth.step == last and isinstance(truth.name, int) for truth in truths))
            if end in ends:
                continue
            ends.add(end)
        kept.append(run)
    return kept


@unhurried
@given(
    runs_of(st.one_of(named_passes(), unnamed_passes), seeds=1, prompts=1),
    st.builds(Interval, st.integers(2, 4)),
    st.sampled_from([None, len(TIMESTEPS)]),
    st.sampled_from([None, 1, 2]),
    st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_whatever_comes_a_whole_run_reads_its_own_features_or_is_refused(
    runs: list[Run], schedule: Interval | Table, num_steps: int | None, passes: int | None, resets: list[bool]
) -> None:
    """Equal seeds, other prompts, contexts or not, runs broken off anywhere, wrong numbers of passes declared."""
    predictor = Taylor(1)
    model = FakeModel(Session(schedule, predictor, num_steps, passes), predictor.history)
    for number, (run, is_reset) in enumerate(zip(runs, resets, strict=False)):
        read: list[bool] = []
        try:
            for truth, plan, ring in simulate(model, run, number):
                own = [Feature(number, step, truth.name) for step in plan.computed]
                is_right = ring == own and plan.position.step == truth.step
                read.append(plan.mode == "compute" or is_right)
        except TrajectoryError:
            if is_reset:
                model.session.reset()
                model.rings.clear()
            continue
        assert all(read) or not run.is_whole


@unhurried
@given(runs_of(st.one_of(named_passes(), unnamed_passes), seeds=1, prompts=1), predictors)
def test_interval_one_computes_whatever_comes(runs: list[Run], predictor: Predictor) -> None:
    model = FakeModel(Session(Interval(1), predictor), predictor.history)
    for number, run in enumerate(runs):
        modes: set[str] = set()
        try:
            modes.update(plan.mode for _, plan, _ in simulate(model, run, number))
        except TrajectoryError:
            modes.add("compute")  # refused, which is no reuse either
        assert modes == {"compute"}
