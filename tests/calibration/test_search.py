from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from fouriercache.calibration.search import Table, move_step, neighbours_of, search

START = (0, 3, 6, 9)


def bowl(target: Table) -> Callable[[Table], float]:
    """An error that falls towards `target`."""
    return lambda table: float(sum((step - wanted) ** 2 for step, wanted in zip(table, target, strict=True)))


def bumpy(seed: int) -> Callable[[Table], float]:
    """An error with many local minima, the same for the same table."""
    return lambda table: (hash((seed, *table)) % 10_007) / 10_007


def remember(asked: list[Table], error: Callable[[Table], float]) -> Callable[[Table], float]:
    def error_of(table: Table) -> float:
        asked.append(table)
        return error(table)

    return error_of


def test_finds_the_bottom_of_a_bowl():
    assert search(bowl((0, 1, 5, 11)), START, 12, 100) == ((0, 1, 5, 11), 0.0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40))
def test_never_goes_up_and_never_tries_more_than_it_may(seed: int, most: int):
    tried: list[Table] = []
    error = bumpy(seed)

    found, best = search(remember(tried, error), START, 12, most)
    assert best == error(found) <= error(START)
    assert len(tried) == len(set(tried)) <= most
    assert all(len(table) == len(START) and table[0] == 0 and list(table) == sorted(set(table)) for table in tried)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_ends_where_no_single_move_helps(seed: int):
    error = bumpy(seed)
    found, best = search(error, START, 12, 10_000)
    assert all(error(neighbour) >= best for neighbour in neighbours_of(found, 12))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30))
def test_asks_for_the_same_tables_in_the_same_order_each_time(seed: int, most: int):
    error = bumpy(seed)
    asked: list[list[Table]] = []
    for _ in range(2):
        order: list[Table] = []
        search(remember(order, error), START, 12, most)
        asked.append(order)
    assert asked[0] == asked[1]


def test_moves_a_step_only_between_its_neighbours():
    assert move_step(START, 1, 2, 12) == (0, 5, 6, 9)
    assert move_step(START, 1, 3, 12) is None
    assert move_step(START, 1, -3, 12) is None
    assert move_step(START, 3, 3, 12) is None
    assert move_step(START, 0, 1, 12) is None
    assert move_step((0,), 0, 1, 12) is None


def test_neighbours_are_all_tables_one_move_away():
    assert list(neighbours_of((0, 1, 3), 5)) == [(0, 2, 3), (0, 1, 2), (0, 1, 4)]
