from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fouriercache.calibration.gaps import Array, State, cheapest_table, find_table, gap_costs, uniform_table
from fouriercache.predictors import Predictor, Reuse, Taylor


def smooth_outputs(num_steps: int, seed: int, width: int = 6) -> Array:
    """[T, width]: curves of a few frequencies and a little noise, as outputs of a denoiser are."""
    draw = np.random.default_rng(seed)
    times = np.linspace(0, 1, num_steps)[:, None]
    curves = np.sin(times * draw.uniform(1, 6, width) + draw.uniform(0, 6, width))
    found: Array = curves + 0.01 * draw.normal(size=curves.shape)
    return found


def table_cost(outputs: Array, weights: Array, predictor: Predictor, table: tuple[int, ...], depth: int) -> float:
    """The sum over gaps of |sum of sqrt(w_i) r_i|^2, from the outputs themselves."""
    total = 0.0
    for number, step in enumerate(table):
        end = table[number + 1] if number + 1 < len(table) else len(outputs)
        known = table[max(0, number + 1 - depth) : number + 1]
        error = np.zeros(outputs.shape[1])
        for skipped in range(step + 1, end):
            (scalars,) = predictor.table(known, skipped)[0]
            predicted = sum(scalar * outputs[source] for scalar, source in zip(scalars, known[::-1], strict=False))
            error += weights[skipped] ** 0.5 * (outputs[skipped] - predicted)
        total += float(error @ error)
    return total


@pytest.mark.parametrize("predictor", [Reuse(), Taylor(1), Taylor(2)])
@pytest.mark.parametrize("computed", [1, 2, 4])
def test_the_table_found_is_the_cheapest_of_all_tables(predictor: Predictor, computed: int):
    num_steps = 9
    outputs, weights = smooth_outputs(num_steps, seed=computed), np.linspace(0.5, 2, num_steps)
    gram = outputs @ outputs.T
    costs = {
        (0, *rest): table_cost(outputs, weights, predictor, (0, *rest), predictor.history)
        for rest in combinations(range(1, num_steps), computed - 1)
    }

    def cost(state: State) -> Array:
        return gap_costs(gram, weights, predictor, state, num_steps)

    found = cheapest_table(cost, num_steps, computed, predictor.history, num_steps)
    assert costs[found] == pytest.approx(min(costs.values()), rel=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 8), st.data())
def test_dynamic_programming_agrees_with_brute_force_on_any_costs(num_steps: int, data: st.DataObject):
    computed = data.draw(st.integers(1, num_steps))
    depth = data.draw(st.integers(1, 3))
    draw = np.random.default_rng(data.draw(st.integers(0, 1000)))
    made: dict[State, Array] = {}

    def cost(state: State) -> Array:
        return made.setdefault(state, draw.uniform(size=num_steps))

    def total(table: tuple[int, ...]) -> float:
        ends = (*table[1:], num_steps)
        states = [table[max(0, number + 1 - depth) : number + 1] for number in range(len(table))]
        return sum(float(cost(state)[end - state[-1] - 1]) for state, end in zip(states, ends, strict=True))

    every = [(0, *rest) for rest in combinations(range(1, num_steps), computed - 1)]
    assert total(cheapest_table(cost, num_steps, computed, depth, num_steps)) == pytest.approx(min(map(total, every)))


def test_a_gap_that_leaves_out_nothing_costs_nothing():
    outputs = smooth_outputs(12, seed=0)
    costs = gap_costs(outputs @ outputs.T, np.ones(12), Taylor(1), (0, 3), 5)
    assert costs[0] == 0
    assert len(costs) == 5
    assert all(costs[1:] > 0)


def test_a_line_costs_nothing_once_its_slope_is_known():
    outputs = np.arange(12.0)[:, None] * np.array([[1.0, -2.0]]) + 3
    costs = gap_costs(outputs @ outputs.T, np.ones(12), Taylor(1), (0, 1), 12)
    assert costs == pytest.approx(np.zeros(11), abs=1e-9)


def test_the_table_computes_where_the_outputs_bend_and_matter():
    outputs = np.concatenate([np.zeros(20), np.arange(20.0) ** 2])[:, None]
    table = find_table(outputs @ outputs.T, np.ones(40), Reuse(), 8)
    assert sum(step >= 20 for step in table) >= 6
    late = np.concatenate([np.full(30, 1e6), np.ones(10)])
    assert np.mean(find_table(outputs @ outputs.T, late, Reuse(), 8)) < np.mean(table)


@pytest.mark.parametrize(("num_steps", "computed"), [(50, 10), (50, 7), (10, 9), (7, 1)])
def test_the_uniform_table_is_as_even_as_whole_numbers_allow(num_steps: int, computed: int):
    table = uniform_table(num_steps, computed)
    gaps = {after - before for before, after in zip(table, (*table[1:], num_steps), strict=True)}
    assert table[0] == 0
    assert len(table) == computed
    assert max(gaps) - min(gaps) <= 1
