"""Manifests in which one thing does not fit another, with every digest right: refused by name, and never in mid-run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import fouriercache as fc
from fouriercache.errors import BundleError, EngineError
from tests.export.test_bundle_bad_input import CALL, sign

pytestmark = pytest.mark.ort


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
        (lambda content: content["forms"][0]["slots"]["slot_0_1"].update(column="x"), "'slot_0_1' .* nothing gives"),
        (lambda content: content["forms"][0]["slots"]["slot_0_1"].update(age=0), "other ages than the 2 features"),
        (lambda content: content["method"]["predictor"].update(order=10**30), "too large for an integer"),
        (lambda content: content["forms"][0]["output"].update(names=[]), "what is no result"),
        (lambda content: content["forms"][0]["output"].update(names=["other"]), "has no other"),
        (lambda content: content["forms"][0]["call"].update(key=[[]]), "names nothing"),
    ],
)
def test_a_manifest_that_does_not_fit_together_is_refused(bundle: Path, tmp_path: Path, change, message):
    folder = shutil.copytree(bundle, tmp_path / "copy")
    sign(folder, change)
    with pytest.raises((BundleError, EngineError), match=message):
        fc.load(folder, threads=1)(**CALL)
