"""What benchmarks/endurance.py makes of what it has counted."""

from typing import Any

import pytest
from endurance import judge

STILL: dict[str, Any] = {
    "trajectories": 1000,
    "resident_before": 400.0,
    "resident_after": 400.5,
    "tensors_before": 500,
    "tensors_after": 500,
    "objects_before": 400_000,
    "objects_after": 400_090,
    "cache_before": 8192,
    "cache_after": 8192,
    "last_over_first": 1.03,
    "is_same": True,
}


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ({"resident_after": 402.0}, "resident bytes added by a trajectory"),
        ({"tensors_after": 501}, "tensors added by a trajectory"),
        ({"objects_after": 401_000}, "objects added by a trajectory"),
        ({"cache_after": 8193}, "bytes of the cache added by a trajectory"),
        ({"last_over_first": 1.2}, "CPU time, last over first"),
        ({"is_same": False}, "rows whose last round gives other latents than the first"),
    ],
)
def test_growth_in_one_way_of_several_misses_its_target_alone(fault: dict[str, Any], what: str):
    missed = [check.what for check in judge([STILL, STILL | fault, STILL]) if check.value > check.limit]
    assert missed == [what]


def test_what_stays_as_it_was_meets_every_target():
    assert all(check.value <= check.limit for check in judge([STILL, STILL]))
