"""What the session plans. Random samplers are in test_session_simulated.py, steps and passes in test_clock*.py."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from fouriercache.errors import MethodError, TrajectoryError
from fouriercache.predictors import Predictor, Reuse, ScalarPredictor, Taylor
from fouriercache.presets import FORA, TaylorSeer
from fouriercache.runtime.call import StepCall
from fouriercache.runtime.session import Plan, Session
from fouriercache.schedules import Interval, Schedule, Table
from tests.runtime.made_up_sampler import FakeModel, Inputs, refuses

TIMESTEPS = [float(timestep) for timestep in range(980, -1, -20)]
"""A scheduler's timesteps, 50 of them."""


def model_of(schedule: Schedule, predictor: Predictor | None = None, **options: Any) -> FakeModel:
    predictor = Reuse() if predictor is None else predictor
    return FakeModel(Session(schedule, predictor, **options), predictor.history)


def run(model: FakeModel, timesteps: Sequence[float] = TIMESTEPS, *contexts: str | None) -> list[Plan]:
    """Run one trajectory with a pass for each context, one pass without a context if there are none."""
    return [model(Inputs(timestep, context=context))[0] for timestep in timesteps for context in contexts or (None,)]


def computed_in(plans: Sequence[Plan]) -> tuple[int, ...]:
    return tuple(plan.position.step for plan in plans if plan.mode == "compute")


# --- compute or reuse, and from what ---


@pytest.mark.parametrize("method", [FORA(3), FORA(7), TaylorSeer(5, 2), TaylorSeer(3, 1), TaylorSeer(4, 4, warmup=3)])
def test_computes_the_steps_of_the_published_schedules_in_every_trajectory(method: Any) -> None:
    model = model_of(method.schedule, method.predictor, num_steps=50)
    for _ in range(3):
        plans = run(model)
        assert computed_in(plans) == method.schedule.steps(50)
        assert [plan.drop_history for plan in plans] == [True] + [False] * 49


def test_interval_one_always_computes() -> None:
    plans = run(model_of(Interval(1), Taylor(2), num_steps=50), TIMESTEPS, "cond", "uncond")
    assert {plan.mode for plan in plans} == {"compute"}


def test_coefficients_are_the_predictors_padded_to_the_length_of_the_ring() -> None:
    predictor = Taylor(2)
    plans = run(model_of(Interval(4), predictor, num_steps=50))
    for plan in plans:
        computed = tuple(range(0, plan.position.step, 4))
        assert plan.computed == computed[-3:]
        if plan.mode == "compute":
            assert plan.coefficients == (((0.0, 0.0, 0.0),),)
        else:
            ((expected,),) = predictor.table(computed, plan.position.step)
            assert plan.coefficients == (((*expected, 0.0, 0.0)[:3],),)


def test_the_rings_hold_what_the_plans_say() -> None:
    model = model_of(Interval(3, warmup=2), Taylor(1), num_steps=50)
    for timestep in TIMESTEPS * 2:
        plan, ring = model(Inputs(timestep))
        assert tuple(feature.step for feature in ring) == plan.computed


def test_a_table_is_followed() -> None:
    assert computed_in(run(model_of(Table((0, 1, 5, 9)), num_steps=50))) == (0, 1, 5, 9)


def test_a_schedule_from_the_first_step_needs_no_number_of_steps() -> None:
    assert computed_in(run(model_of(Interval(5)), TIMESTEPS[:23])) == (0, 5, 10, 15, 20)


def test_every_pass_has_coefficients_of_its_own() -> None:
    model = model_of(Interval(4), Taylor(1))
    run(model, TIMESTEPS[:6], "cond")
    plans = run(model, TIMESTEPS[6:8], "uncond", "cond")
    assert [(plan.mode, plan.computed) for plan in plans] == [
        ("compute", ()),  # begins late, with an empty ring
        ("reuse", (0, 4)),
        ("reuse", (6,)),
        ("reuse", (0, 4)),
    ]
    assert [plan.coefficients[0][0] for plan in plans] == [(0.0, 0.0), (1.5, -0.5), (1.0, 0.0), (1.75, -0.75)]


def test_a_pass_that_ends_early_leaves_the_others_alone() -> None:
    model = model_of(Interval(4), Taylor(1), num_steps=50)
    for _ in range(2):
        run(model, TIMESTEPS[:9], "cond", "uncond")
        assert computed_in(run(model, TIMESTEPS[9:], "cond")) == tuple(range(12, 50, 4))


# --- prepared ---


def test_prepared_timesteps_give_the_number_of_steps() -> None:
    model = model_of(Interval(5), direction="up")
    model.session.prepare(TIMESTEPS[:23])
    assert model.session.num_steps == 23
    assert computed_in(run(model, TIMESTEPS[:23])) == (0, 5, 10, 15, 20)


def test_prepare_drops_the_history() -> None:
    model = model_of(Interval(5))
    run(model, TIMESTEPS[:3])
    model.session.prepare(TIMESTEPS[3:6])
    plan, _ = model(Inputs(TIMESTEPS[3]))
    assert (plan.mode, plan.drop_history, plan.computed) == ("compute", True, ())


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [([], TrajectoryError), ([9.0] * 4, TrajectoryError), ([9.0, 8.0, 7.0], MethodError)],
)
def test_a_refused_list_leaves_the_session_as_it_was(wrong: list[float], kind: type[Exception]) -> None:
    model = model_of(Table((0, 3)))
    model.session.prepare(TIMESTEPS[:5])
    run(model, TIMESTEPS[:2])
    with pytest.raises(kind):
        model.session.prepare(wrong)
    assert model.session.num_steps == 5
    assert computed_in(run(model, TIMESTEPS[2:5])) == (3,)


def test_reset_drops_the_history() -> None:
    model = model_of(Interval(5))
    run(model, TIMESTEPS[:3])
    model.session.reset()
    plan, _ = model(Inputs(TIMESTEPS[3]))
    assert (plan.mode, plan.drop_history, plan.computed) == ("compute", True, ())


# --- bad input ---


def test_refuses_a_schedule_that_lacks_the_number_of_steps() -> None:
    with pytest.raises(MethodError, match=r"(?s)'interval' needs the number of steps.*where: Interval.*num_steps="):
        Session(Interval(3, anchor="last"), Reuse())


def test_refuses_a_schedule_that_does_not_fit_the_number_of_steps() -> None:
    with pytest.raises(MethodError, match="A table lists steps"):
        Session(Table((0, 40)), Reuse(), num_steps=20)


def test_refuses_inputs_that_change_in_mid_trajectory() -> None:
    model = model_of(Interval(5))
    run(model, TIMESTEPS[:2])
    with refuses("The inputs changed", "step 2, timestep 940.0, pass 0", "reset()") as error:
        model(Inputs(TIMESTEPS[2], signature=("latents f32[3, 4]", "text f32[2, 7]")))
    assert "\n  from 'latents f32[2, 4]' to 'latents f32[3, 4]'\n" in str(error.value)
    assert "text" not in str(error.value)
    with refuses("The inputs changed", "step 2") as error:
        model(Inputs(TIMESTEPS[2], signature="something else"))
    assert "\n  from ('latents f32[2, 4]', 'text f32[2, 7]') to 'something else'\n" in str(error.value)
    assert computed_in(run(model, TIMESTEPS[2:6])) == (5,)


def test_inputs_that_change_on_a_computed_step_are_refused_too() -> None:
    model = model_of(Interval(1))
    run(model, TIMESTEPS[:1])
    with refuses("The inputs changed", "step 1"):
        model(Inputs(TIMESTEPS[1], signature="other"))


def test_inputs_may_change_with_a_new_trajectory() -> None:
    model = model_of(Interval(5))
    for signature in ("one", "other"):
        for timestep in TIMESTEPS[:7]:
            model(Inputs(timestep, signature=signature))


def test_passes_may_have_inputs_of_different_shapes() -> None:
    model = model_of(Interval(5))
    for timestep in TIMESTEPS * 2:
        for text in ("long", "short"):
            model(Inputs(timestep, conditioning=text, signature=("latents", text)))


@dataclass(frozen=True)
class Wild(ScalarPredictor):
    """A predictor that answers whatever it is told to."""

    answer: tuple[float, ...]
    history: int = 2
    name: str = "wild"

    def coefficients(self, computed: Sequence[int], step: int) -> tuple[float, ...]:
        return self.answer


@pytest.mark.parametrize("answer", [(1.0, 1.0), (1.0, 1.0, 1.0), (float("nan"),), (float("inf"),)], ids=repr)
def test_refuses_coefficients_that_cannot_be_used(answer: tuple[float, ...]) -> None:
    model = model_of(Interval(5), Wild(answer))
    run(model, TIMESTEPS[:1])
    with pytest.raises(MethodError, match=r"(?s)'wild' gave coefficients.*where: .*step 1 from computed steps \(0,\)"):
        run(model, TIMESTEPS[1:2])


# --- what a session promises ---


def test_an_exception_between_plan_and_commit_changes_nothing() -> None:
    model = model_of(Interval(4), Taylor(1), num_steps=8)
    spared = model_of(Interval(4), Taylor(1), num_steps=8)
    for timestep in TIMESTEPS[:8] * 2:
        for context in ("cond", "uncond"):
            inputs = Inputs(timestep, context=context)
            for _ in range(2):
                with pytest.raises(MemoryError):
                    model(inputs, is_broken=True)
            assert model(inputs) == spared(inputs)


def test_a_run_that_fails_in_its_first_call_of_all_leaves_a_fresh_session() -> None:
    model = model_of(Interval(4))
    with pytest.raises(MemoryError):
        model(Inputs(500.0), is_broken=True)
    assert computed_in(run(model, TIMESTEPS[:5])) == (0, 4)


def test_planning_twice_gives_the_same_plan() -> None:
    model = model_of(Interval(4))
    run(model, TIMESTEPS[:3])
    call = StepCall((TIMESTEPS[3],), None, Inputs(0.0).signature, lambda: False, lambda: False, lambda: True)
    assert model.session.plan(call) == model.session.plan(call)


def test_a_plan_made_before_another_call_cannot_be_committed() -> None:
    model = model_of(Interval(4))
    run(model, TIMESTEPS[:3])
    call = StepCall((TIMESTEPS[3],), None, Inputs(0.0).signature, lambda: False, lambda: False, lambda: True)
    plans = [model.session.plan(call) for _ in range(2)]
    model.session.commit(plans[0])
    with refuses("Another call of the same session", "step 3", "new_session()"):
        model.session.commit(plans[1])
    assert computed_in(run(model, TIMESTEPS[4:9])) == (4, 8)


def test_a_copied_session_goes_its_own_way() -> None:
    model = model_of(Interval(4), Taylor(1))
    run(model, TIMESTEPS[:3])
    twin = copy.deepcopy(model)
    run(model, TIMESTEPS[:2])
    assert computed_in(run(twin, TIMESTEPS[3:9])) == (4, 8)
