"""The algebra: presets are the published methods, methods are values, and wrong answers are refused when given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError, dataclass, field
from inspect import signature
from typing import Any, ClassVar

import pytest

import fouriercache
from fouriercache.codecs import Codec, Dense, Storage
from fouriercache.errors import MethodError, OptimizeError
from fouriercache.methods import SITES, Method
from fouriercache.predictors import Newton, Predictor, Reuse, ScalarPredictor, Taylor
from fouriercache.presets import FORA, PRESETS, Spectrum, TaylorSeer, Tuned, method_for, method_from_name
from fouriercache.schedules import FixedSchedule, Growing, Interval, Schedule, Table
from fouriercache.tokens import All, Tokens

WITH_SCHEDULE = [preset for preset in PRESETS.values() if "schedule" in signature(preset).parameters]
WITH_INTERVAL = [preset for preset in PRESETS.values() if "interval" in signature(preset).parameters]


@dataclass(frozen=True)
class Halfway(ScalarPredictor):
    """A predictor from outside the package."""

    name: ClassVar[str] = "halfway"
    history: ClassVar[int] = 2

    def coefficients(self, computed: Sequence[int], step: int) -> tuple[float, ...]:
        return (0.5, 0.5)


@dataclass(frozen=True)
class Drifting(FixedSchedule):
    """A schedule from outside the package that cannot list its steps beforehand."""

    name: ClassVar[str] = "drifting"
    needs_num_steps: ClassVar[bool] = False

    threshold: float

    def steps(self, num_steps: int | None) -> None:
        return None

    def is_computed(self, step: int, num_steps: int | None) -> bool:
        return step == 0


@dataclass(frozen=True)
class Coarse:
    """A codec from outside the package."""

    name: ClassVar[str] = "coarse"
    needs_grid: ClassVar[bool] = True
    storage: ClassVar[Storage] = Storage()


@dataclass(frozen=True)
class Best:
    """A choice of tokens from outside the package."""

    name: ClassVar[str] = "best"
    is_partial: ClassVar[bool] = True


@dataclass
class Unfrozen(ScalarPredictor):
    """A predictor that can change behind the method's back."""

    name: ClassVar[str] = "unfrozen"
    history: int = 1

    def coefficients(self, computed: Sequence[int], step: int) -> tuple[float, ...]:
        return (1.0,)


@dataclass(frozen=True)
class HoldsList(ScalarPredictor):
    """A predictor with a field that has no hash."""

    name: ClassVar[str] = "holds_list"
    history: ClassVar[int] = 1

    scalars: list[float] = field(default_factory=list)

    def coefficients(self, computed: Sequence[int], step: int) -> tuple[float, ...]:
        return tuple(self.scalars)


def test_fora_is_the_published_method() -> None:
    assert FORA(5) == Method("FORA", "branch", Interval(5, warmup=1, anchor="last"), Reuse(), Dense(), All())
    assert FORA() == FORA(interval=3)


def test_taylorseer_is_the_published_method() -> None:
    expected = Method("TaylorSeer", "branch", Interval(4, warmup=2, anchor="first"), Taylor(4, first_difference=1))
    assert TaylorSeer(interval=4, order=4) == expected
    assert TaylorSeer() == TaylorSeer(interval=5, order=2, warmup=2)


def test_taylorseer_for_flux_warms_up_for_three_steps() -> None:
    method = TaylorSeer(6, 1, warmup=3)
    assert method.schedule.steps(50) == (0, 1, 2, 8, 14, 20, 26, 32, 38, 44)
    assert method.predictor == Taylor(1, first_difference=2)


def test_spectrum_keeps_every_feature_that_its_schedule_computes() -> None:
    assert Spectrum(20).predictor.history == len(Growing().steps(20) or ())
    assert Spectrum(schedule=Table((0, 3, 9))).predictor.history == 3
    assert Spectrum(schedule=Drifting(0.4), history=6).predictor.history == 6
    with pytest.raises(MethodError, match="Pass history="):
        Spectrum(schedule=Drifting(0.4))


def test_tuned_is_one_residual_with_a_polynomial_and_takes_a_table() -> None:
    found = Table((0, 9, 16, 22))
    assert Tuned(schedule=found) == Method("Tuned", "stack", found, Newton(2), Dense(), All())
    steps = Tuned(interval=6).schedule.steps(50)
    assert steps is not None
    assert steps[:2] == (0, 1)
    assert steps[-1] == 49


@pytest.mark.parametrize("preset", PRESETS.values())
def test_preset_is_built_again_from_its_text(preset: Callable[..., Method]) -> None:
    assert eval(repr(preset()), vars(fouriercache)) == preset()


@pytest.mark.parametrize("preset", WITH_SCHEDULE)
def test_preset_takes_the_other_answers_as_keywords(preset: Callable[..., Method]) -> None:
    method = preset(site="stack", schedule=Table((0, 3)), codec=Coarse(), tokens=Best())
    assert (method.site, method.schedule, method.codec, method.tokens) == ("stack", Table((0, 3)), Coarse(), Best())


@pytest.mark.parametrize("preset", WITH_INTERVAL)
def test_preset_refuses_an_interval_beside_a_schedule(preset: Callable[..., Method]) -> None:
    with pytest.raises(MethodError, match="Leave out one of the two"):
        preset(interval=7, schedule=Table((0, 3)))


@pytest.mark.parametrize("interval", [0, -1, True, 2.5, "3", None])
@pytest.mark.parametrize("preset", WITH_INTERVAL)
def test_preset_refuses_a_wrong_interval_in_its_own_words(preset: Callable[..., Method], interval: object) -> None:
    with pytest.raises(MethodError, match=f"{preset.__name__} needs interval to be"):
        preset(interval=interval)


@pytest.mark.parametrize("warmup", [0, True, 2.0])
def test_taylorseer_refuses_a_wrong_warmup_also_beside_a_schedule(warmup: int) -> None:
    with pytest.raises(MethodError, match="needs warmup to be"):
        TaylorSeer(warmup=warmup, schedule=Table((0, 3)))


@pytest.mark.parametrize("order", [-1, True, 1.0])
def test_taylorseer_refuses_a_wrong_order(order: int) -> None:
    with pytest.raises(MethodError, match="needs order to be"):
        TaylorSeer(order=order)


def test_method_error_is_a_value_error_of_this_package() -> None:
    assert issubclass(MethodError, ValueError)
    assert issubclass(MethodError, OptimizeError)


def test_with_changes_one_answer_and_leaves_the_original() -> None:
    method = TaylorSeer(4)
    changed = method.with_(site="stack", predictor=Reuse())
    assert changed == Method("TaylorSeer", "stack", method.schedule, Reuse())
    assert method == TaylorSeer(4)
    assert method.with_() == method


def test_with_refuses_an_unknown_field_with_a_suggestion() -> None:
    with pytest.raises(MethodError, match="Did you mean 'schedule'") as caught:
        FORA().with_(shedule=Table((0, 3)))
    assert "name, site, schedule, predictor, codec, tokens" in str(caught.value)


def test_with_checks_the_new_value() -> None:
    with pytest.raises(MethodError, match="Did you mean 'branch'"):
        FORA().with_(site="branches")


@pytest.mark.parametrize("site", SITES)
def test_every_site_is_accepted(site: str) -> None:
    assert FORA(site=site).site == site


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"name": ""}, "A method needs a name"),
        ({"name": None}, "A method needs a name"),
        ({"site": None}, "does not know site None"),
        ({"schedule": 5}, "needs a value for schedule, got 5 of type int"),
        ({"schedule": None}, "needs a value for schedule, got None"),
        ({"schedule": Interval}, "got the class Interval itself"),
        ({"predictor": Interval(5)}, "needs a value for predictor, got Interval"),
        ({"predictor": Unfrozen()}, "needs predictor to be a frozen dataclass with hashable fields, Unfrozen is not"),
        ({"predictor": HoldsList()}, "needs predictor to be a frozen dataclass with hashable fields, HoldsList is not"),
        ({"codec": All()}, "needs a value for codec, got All"),
        ({"codec": "int8"}, r"(?s)got 'int8' of type str.*as in codec=fc\.Quantized\('int8'\)"),
        ({"codec": "bfloat16"}, r"as in codec=fc\.Quantized\('bfloat16'\)"),
        ({"codec": "int4"}, r"as in codec=fc\.Quantized\('int8'\)"),
        ({"tokens": Dense()}, "needs a value for tokens, got Dense"),
    ],
)
def test_answer_to_another_question_is_refused(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(MethodError, match=fault):
        FORA().with_(**changes)


def test_answer_from_outside_the_package_is_as_good_as_ours() -> None:
    method = FORA(schedule=Drifting(0.4), codec=Coarse(), tokens=Best()).with_(predictor=Halfway())
    assert method.schedule.steps(50) is None
    assert method.predictor.table([0, 2], 3) == (((0.5, 0.5),),)
    assert hash(method) == hash(method.with_())


def test_every_answer_of_ours_has_the_members_of_its_question() -> None:
    assert all(isinstance(answer, Schedule) for answer in (Interval(3), Table((0,))))
    assert all(isinstance(answer, Predictor) for answer in (Reuse(), Taylor(2)))
    assert isinstance(Dense(), Codec)
    assert isinstance(All(), Tokens)
    assert (Dense().needs_grid, All().is_partial) == (False, False)
    assert [part.name for part in (Interval(3), Table((0,)), Reuse(), Taylor(2), Dense(), All())] == [
        "interval",
        "table",
        "reuse",
        "taylor",
        "dense",
        "all",
    ]


def test_equal_methods_are_one_key() -> None:
    assert len({TaylorSeer(5), TaylorSeer(5, 2), TaylorSeer(5).with_(site="branch"), FORA(), FORA(5)}) == 3


def test_method_cannot_be_changed_in_place() -> None:
    with pytest.raises(FrozenInstanceError):
        FORA().site = "stack"  # type: ignore[misc]


def test_repr_is_python_that_builds_the_method_again() -> None:
    method = TaylorSeer(4, 3, schedule=None, site="stack").with_(schedule=Table([0, 1, 6]))
    assert repr(method) == (
        "Method(name='TaylorSeer', site='stack', schedule=Table((0, 1, 6)), "
        "predictor=Taylor(order=3, first_difference=1), codec=Dense(), tokens=All())"
    )
    assert eval(repr(method)) == method


def test_method_from_name_builds_the_preset_with_its_options() -> None:
    assert method_from_name("TaylorSeer", interval=4, order=1) == TaylorSeer(4, 1)
    assert method_from_name("FORA") == FORA()


def test_a_preset_by_name_is_made_for_the_number_of_steps_where_it_is_made_for_one() -> None:
    assert method_for("Spectrum", 8) == Spectrum(num_steps=8)
    assert method_for("Spectrum", 8, alpha=0.5, num_steps=9) == Spectrum(num_steps=9, alpha=0.5)
    assert method_for("Spectrum", None) == Spectrum()
    assert method_for("TaylorSeer", 8, order=1) == TaylorSeer(order=1)


@pytest.mark.parametrize("name", ["Prony", "Taylor"])
def test_a_predictor_is_no_method_and_the_error_says_how_to_make_one_of_it(name: str) -> None:
    with pytest.raises(MethodError, match=rf"It is a predictor, .*: fc\.Method\('{name}', 'stack', .*fc\.{name}\("):
        method_from_name(name)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("taylorseer", "TaylorSeer"), ("TaylorSeeer", "TaylorSeer"), ("fora", "FORA"), ("FOR", "FORA")],
)
def test_unknown_name_is_refused_with_a_suggestion(name: str, suggestion: str) -> None:
    with pytest.raises(MethodError, match=f"Did you mean '{suggestion}'"):
        method_from_name(name)


@pytest.mark.parametrize("name", ["zzz", "", None, 3])
def test_name_unlike_any_other_is_refused_with_the_list(name: str) -> None:
    with pytest.raises(MethodError, match=f"Use one of {', '.join(PRESETS)}, or build a Method") as caught:
        method_from_name(name)
    assert "Did you mean" not in str(caught.value)


def test_unknown_option_is_refused_with_a_suggestion() -> None:
    with pytest.raises(MethodError, match="TaylorSeer has no field 'intervall'") as caught:
        method_from_name("TaylorSeer", intervall=3)
    assert "Did you mean 'interval'" in str(caught.value)
    with pytest.raises(MethodError, match=r"FORA takes no order(.|\n)*one: .*TaylorSeer"):
        method_from_name("FORA", order=2)
    with pytest.raises(MethodError, match="FORA takes interval, site, schedule"):
        method_from_name("FORA", order=2)
