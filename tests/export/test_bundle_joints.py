"""Manifests in which one thing does not fit another, with every digest right: refused by name, and never in mid-run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import fouriercache as fc
from fouriercache.errors import BundleError, EngineError
from tests.export.test_bundle_bad_input import CALL, sign

pytestmark = pytest.mark.ort
TABLE = {"type": "Table", "computed": [0, 3, 9]}
FITTED = {"type": "Calibrated", "computed": [0, 1], "rows": [[[[1.0, 0.0]]]], "edges": []}


def moving(content):
    """What a manifest says of the graph that every computed step runs."""
    return content["forms"][0]["modes"][0]["parts"]["moving"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: moving(content)["outputs"][1].update(shape=["batch", -1, 16]), "no tensor is"),
        (lambda content: moving(content)["outputs"][1].update(shape=["batch", 2**40, 16]), "no tensor is"),
        (lambda content: moving(content)["outputs"][1].update(shape=["batch", "0-batch", 16]), "no tensor is"),
        (lambda content: moving(content)["outputs"][1].update(name="other"), "'slot_0_0' .slot. nothing gives"),
        (lambda content: moving(content)["inputs"].pop(), "where the manifest says"),
        (lambda content: content["forms"][0]["call"]["tensors"][1].update(name="t"), "'timestep' .* nothing gives"),
        (lambda content: content["forms"][0]["slots"]["slot_0_1"].update(column="x"), "slot_0_1 has a column 'x'"),
        (lambda content: content["forms"][0]["sites"][0].update(columns=[]), "slot_0_0 has a column"),
        (lambda content: content["forms"][0]["modes"].append(content["forms"][0]["modes"][0]), "a mode twice"),
        (
            lambda content: content["forms"][0]["modes"][0]["parts"].update(text="../secret"),
            "no checksum for ../secret",
        ),
        (lambda content: content["forms"][0]["modes"][0]["parts"].update(digest="0" * 64), "its digest differs"),
        (lambda content: content["forms"][0]["slots"]["slot_0_1"].update(age=-1), "other ages than the 2 features"),
        (lambda content: content["method"]["predictor"].update(order=10**30), "too large for an integer"),
        (lambda content: content["forms"][0]["output"].update(names=[]), "what is no result"),
        (lambda content: content["forms"][0]["output"].update(names=["other"]), "has no other"),
        (lambda content: content["forms"][0]["call"].update(key=[[]]), "names nothing"),
        (lambda content: content["trajectory"].update(num_steps=8), "a table of 9 steps, and num_steps 8"),
        (lambda content: content["trajectory"].update(num_steps=0), "num_steps 0, and it counts from 1"),
        (lambda content: content["trajectory"].update(passes_per_step=-1), "passes_per_step -1"),
        (lambda content: content["trajectory"].update(num_steps=None), "a table of 9 steps, and num_steps None"),
        (lambda content: content["trajectory"].update(timesteps=[1.0]), "1 timesteps, and num_steps 9"),
        (lambda content: content["trajectory"]["steps"][2].update(mode="compute"), "'compute' at step 2, and .* sched"),
        (lambda content: content["trajectory"]["steps"][2].update(mode="partial"), "'partial' .* at step 2, and no gr"),
        (lambda content: content["trajectory"]["steps"][1].update(coefficients=[[[1.0]]]), "other coefficients at st"),
        (lambda content: content["trajectory"]["steps"][1].update(counts=[1]), "counts of tokens at step 1"),
        (lambda content: content["method"].update(schedule=TABLE), "which do not fit its method: A table lists steps"),
        (lambda content: content["method"].update(predictor=FITTED), "made for trajectories of 3 steps, and these"),
    ],
)
def test_a_manifest_that_does_not_fit_together_is_refused(bundle: Path, tmp_path: Path, change, message):
    folder = shutil.copytree(bundle, tmp_path / "copy")
    sign(folder, change)
    with pytest.raises((BundleError, EngineError), match=message):
        fc.load(folder, threads=1)(**CALL)
