"""The shipped model in ONNX Runtime: one method's whole 50-step loop in both forms, and the table of all presets."""

from __future__ import annotations

import json
from pathlib import Path

import ort_presets
import pytest

from fouriercache.presets import PRESETS

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


@pytest.mark.ort
@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_whole_loop_of_the_shipped_model_equals_eager_in_both_forms(tmp_path):
    subject = ort_presets.Subject.make(quick=False)
    modes, single = ort_presets.compare(subject, ort_presets.CALIBRATED, tmp_path)
    for row in (modes, single):
        assert row["computed"] == 10
        assert row["same"]
        assert row["worst"] < 1e-4  # of the largest value, at each of the 50 steps
    assert 0 < single["products_cached"] < single["products_computed"] / 2, "one branch of the If is evaluated"


def test_the_committed_table_has_every_preset_in_every_form_it_has():
    found = json.loads((RESULTS / "ort_presets.json").read_text())
    assert found["settings"]["steps"] == 50
    rows = {(row["name"], row["form"]): row for row in found["rows"]}
    modes = {name for name, form in rows if form == "a graph for each mode"}
    assert set(PRESETS) <= modes
    partial = {name for name in modes if name.startswith("ToCa")}  # these choose tokens
    assert {name for name, form in rows if form == "one graph with an If"} == modes - partial
    assert all(row["same"] and row["worst"] < 1e-4 and 0 < row["computed"] < 50 for row in rows.values())
    assert all(check["met"] for check in found["checks"])
