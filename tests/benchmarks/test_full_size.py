"""What benchmarks/full_size.py makes of its rows, and what it measures with."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import full_size
import pytest
from measure import exponent, peak_memory, run_apart, timed
from results import Row, last_rows


def row(model: str, calls: int, seconds: float, *, site: str = "branch", memory: float = 1.0) -> dict[str, Any]:
    return {
        "model": model,
        "site": site,
        "calls": calls,
        "pass_cpu": dict.fromkeys(("median", "low", "high"), seconds),
        "memory": memory,
        "left": 0,
    }


def test_growth_is_told_of_models_that_were_measured_at_depths_alone():
    rows: list[Row] = [row("flux-dev", 400, 1.6), row("dit-xl-2", 100, 1.0), row("flux-dev@10", 100, 0.1)]
    rows += [row("flux-dev", 400, 1.0, site="stack"), row("flux-dev@10", 100, 0.25, site="stack")]
    assert {(model, site): round(slope, 9) for model, site, slope in full_size.growths(rows)} == {
        ("flux-dev", "branch"): 2.0,
        ("flux-dev", "stack"): 1.0,
    }


def test_each_target_is_held_against_the_worst_row():
    rows: list[Row] = [row("dit-xl-2", 9, 1, memory=23.0), row("dit-xl-2", 18, 2, memory=25.0) | {"left": 4.0}]
    missed = {check.what: check.value for check in full_size.summarize(rows).checks if check.value > check.limit}
    assert missed == {"dit-xl-2: largest resident memory, GB": 25.0, "largest share of block FLOPs left, %": 4.0}


def test_rows_of_an_earlier_run_stay_and_stand_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    steps = {column.key: 1 for column in full_size.COLUMNS if column.form}
    made = {model: [{**steps, **row(model, 9, 1.0)}] for model in ("wan-14b", "dit-xl-2")}
    monkeypatch.setattr(full_size, "run_apart", lambda _, __, spec, ___: {"rows": made[spec]})
    for model in made:
        monkeypatch.setattr(sys, "argv", ["full_size.py", "--out", str(tmp_path), "--only", model])
        full_size.main()
    assert [kept["model"] for kept in last_rows("full_size", tmp_path)] == ["dit-xl-2", "wan-14b"]


def test_time_memory_and_growth_are_what_they_say(tmp_path: Path):
    kept = [0] * 4_000_000
    seconds, found = timed(lambda: sum(kept))
    assert found == 0
    assert 0 < seconds.cpu < seconds.wall + 0.1  # clocks of two kinds
    assert peak_memory() > 8 * len(kept)
    assert exponent([1, 2, 4], [3, 3 * 2**1.5, 3 * 4**1.5]) == pytest.approx(1.5)
    assert math.isfinite(exponent([1, 2], [0.1, 0.1]))
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nprint('words first')\nprint('{\"given\": %r}' % len(sys.argv[1:]))\nsys.exit(len(sys.argv) - 2)"
    )
    assert run_apart(str(script), "one") == {"given": 1}
    with pytest.raises(RuntimeError, match=r"script\.py one two failed"):
        run_apart(str(script), "one", "two")
