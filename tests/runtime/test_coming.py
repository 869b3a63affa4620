"""Which steps of a sampler's list are made ready at once."""

from __future__ import annotations

import pytest

from fouriercache.runtime.coming import runs_on, whole_runs


@pytest.mark.parametrize(
    ("steps", "most", "want"),
    [
        ([], 4, []),
        ([2, 3], 4, [2, 3]),
        ([2, 3, 5, 6], 4, [2, 3, 5, 6]),
        ([2, 3, 5, 6, 7], 4, [2, 3]),  # the second run would be cut
        ([2, 3, 4, 5, 6, 8], 4, [2, 3, 4, 5]),  # a first run that is too long is cut all the same
        ([2, 4, 6, 8, 10], 3, [2, 4, 6]),
        ([2, 3, 5, 6, 8], 4, [2, 3, 5, 6]),
    ],
)
def test_no_run_of_steps_is_cut_but_the_first(steps, most, want):
    assert whole_runs(steps, most) == want


@pytest.mark.parametrize(
    ("timesteps", "count", "direction", "want"),
    [
        ((3.0, 2.0, 1.0), 3, "down", True),
        ((3.0, 2.0, 1.0), 3, "up", False),
        ((1.0, 2.0), 2, "up", True),
        ((3.0, 2.0, 1.0), 4, "down", False),
        ((3.0, 2.0, 1.0), 2, "down", False),  # a sampler that stops earlier: which steps it takes is not known
        ((3.0, 2.0, 2.0), 3, "down", False),  # of second order, or rounded
        ((3.0, float("nan"), 1.0), 3, "down", False),
        ((1.0,), 1, "down", True),
        ((), 0, "down", True),
        ((), 1, "down", False),
    ],
)
def test_a_list_fits_that_ends_with_the_trajectory_and_moves_on_all_the_way(timesteps, count, direction, want):
    assert runs_on(timesteps, count, direction) == want
