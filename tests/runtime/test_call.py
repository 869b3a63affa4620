import pytest
from hypothesis import given
from hypothesis import strategies as st

from fouriercache.errors import TrajectoryError
from fouriercache.runtime.call import check_timestep, check_trajectory, show_timestep
from fouriercache.runtime.moves import movement, stride

finite = st.floats(allow_nan=False, allow_infinity=False)


@given(finite, st.integers(1, 9))
def test_equal_values_are_one_key_whatever_the_batch(value: float, batch: int) -> None:
    assert check_timestep((value,) * batch) == (value,)


def test_different_values_are_kept_in_their_order() -> None:
    assert check_timestep((3.0, 5.0, 3.0)) == (3.0, 5.0, 3.0)


@pytest.mark.parametrize(
    "values",
    [
        (),
        (float("nan"),),
        (float("inf"),),
        (-float("inf"),) * 3,
        (float("nan"),) * 2,
        (1.0, float("nan")),
        (1.0, float("inf")),
    ],
    ids=repr,
)
def test_refuses_a_timestep_that_is_empty_or_not_finite(values: tuple[float, ...]) -> None:
    with pytest.raises(TrajectoryError, match="The timestep is empty or not finite") as error:
        check_timestep(values)
    assert f"where: {show_timestep(values)}" in str(error.value)


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [
        ((5.0,), (4.0,), -1),
        ((5.0,), (6.0,), 1),
        ((5.0, 3.0), (4.0, 2.0), -1),
        ((5.0, 3.0), (6.0, 4.0), 1),
        ((5.0, 3.0), (4.0, 4.0), 0),
        ((5.0, 0.0), (4.0, 0.0), -1),
        ((5.0, 0.0), (6.0, 0.0), 1),
        ((5.0,), (4.0, 3.0), -1),
        ((4.0, 3.0), (5.0,), 1),
        ((4.0, 2.0), (3.0,), 0),
        ((4.0, 2.0), (3.0, 1.0, 0.0), 0),
    ],
)
def test_a_batch_moves_one_way_or_not_at_all(before: tuple[float, ...], after: tuple[float, ...], moved: int) -> None:
    assert movement(before, after) == moved


@pytest.mark.parametrize(
    ("before", "after", "far"),
    [((5.0,), (3.0,), 2.0), ((3.0,), (5.0,), 2.0), ((5.0, 0.0), (4.0, 0.0), 1.0), ((5.0,), (4.0, 2.0), 3.0)],
)
def test_a_stride_is_the_longest_way_of_any_value(
    before: tuple[float, ...], after: tuple[float, ...], far: float
) -> None:
    assert stride(before, after) == far


def test_a_message_shows_a_few_values_of_many() -> None:
    assert show_timestep((1.5,)) == "1.5"
    assert show_timestep((1.0, 2.0)) == "(1.0, 2.0)"
    assert show_timestep(tuple(map(float, range(9)))) == "(0.0, 1.0, 2.0, 3.0, ... 9 values)"


def test_prepared_timesteps_may_run_in_any_order() -> None:
    assert check_trajectory([3, 1, 2, 1], 4, is_equal_allowed=False) == (3.0, 1.0, 2.0, 1.0)


def test_equal_neighbours_are_allowed_where_every_call_is_a_step() -> None:
    assert check_trajectory([3, 2, 2, 1], None, is_equal_allowed=True) == (3.0, 2.0, 2.0, 1.0)


@pytest.mark.parametrize(
    ("timesteps", "num_steps", "fault", "advice"),
    [
        ([], None, "empty or not finite", "after set_timesteps"),
        ([2.0, float("nan")], None, "empty or not finite", "after set_timesteps"),
        ([3.0, 2.0], 3, "there are 2 where num_steps=3", r"num_steps=2\), or prepare 3"),
        ([3.0, 2.0, 3.0], None, "the first, 3.0, stands again at step 2", "let the first timestep stand once"),
        ([3.0, 3.0, 2.0], None, "the first, 3.0, stands again at step 1", "let the first timestep stand once"),
        ([3.0, 2.0, 2.0], None, "one stands twice in a row", "passes_per_step=1"),
    ],
)
def test_refuses_timesteps_that_make_no_trajectory(
    timesteps: list[float], num_steps: int | None, fault: str, advice: str
) -> None:
    with pytest.raises(TrajectoryError, match=f"(?s)cannot be prepared: .*{fault}.*where: .*{advice}"):
        check_trajectory(timesteps, num_steps, is_equal_allowed=False)
