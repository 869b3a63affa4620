"""A repository made of a bundle: what a client does by its table computes what the optimised module computes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from fouriercache.bundle.manifest import Given, Manifest, Returned, Step
from fouriercache.errors import BundleError, LoweringError, TargetError
from fouriercache.export.triton import export_triton, from_bundle
from tests.export.triton_schema import parse_config
from tests.tiny import denoise, distance

pytestmark = pytest.mark.ort

TIMESTEPS = tuple(range(900, 0, -100))


@pytest.fixture(scope="module")
def repository(bundle, tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("triton") / "repository"
    export_triton(bundle, folder, name="dit", kind="cpu")
    return folder


def sessions(repository: Path) -> dict[str, Any]:
    return {
        path.parent.name: onnxruntime.InferenceSession(
            path.parent / "1" / "model.onnx", providers=["CPUExecutionProvider"]
        )
        for path in repository.glob("*/config.pbtxt")
    }


class Client:
    """Calls the models as the repository's README says, the state kept by itself or by Triton."""

    def __init__(self, repository: Path, *, is_sequence: bool) -> None:
        self.table = json.loads((repository / "schedule.json").read_text())
        self.models = sessions(repository)
        self.config = parse_config((repository / "dit" / "config.pbtxt").read_text())
        self.is_sequence, self.step = is_sequence, 0
        self.ring: dict[str, list[np.ndarray]] = {column: [] for column in self.table["kept"]}
        states = self.config.sequence_batching.state
        self.kept = {s.input_name: np.zeros(list(s.initial_state[0].dims), np.float32) for s in states}

    def __call__(self, **call: torch.Tensor) -> Any:
        row = self.table["steps"][self.step]
        self.step += 1
        given = {name: value.numpy() for name, value in call.items()}
        if self.is_sequence:
            found = self.run(self.table["sequence_model"], given, row["sequence_inputs"], self.kept)
            self.kept = {s.input_name: found[s.output_name] for s in self.config.sequence_batching.state}
        else:
            slots = {
                slot: self.ring[column][min(age, len(self.ring[column]) - 1)]
                for column, names in self.table["kept"].items()
                for age, slot in enumerate(names)
                if self.ring[column]
            }
            found = self.run(self.table["models"][row["mode"]], given, row["inputs"], slots)
            for column in self.ring.keys() & found.keys():
                self.ring[column].insert(0, found[column])
        return type("Output", (), {"sample": torch.from_numpy(found["result_0"])})

    def run(self, model: str, call: dict[str, Any], scalars: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
        session = self.models[model]
        known = call | state | {n: np.array(v, bool if n == "refresh" else np.float32) for n, v in scalars.items()}
        wanted = [tensor.name for tensor in session.get_inputs()]
        outputs = [tensor.name for tensor in session.get_outputs()]
        return dict(zip(outputs, session.run(None, {name: known[name] for name in wanted}), strict=True))


@pytest.mark.parametrize("is_sequence", [False, True], ids=["explicit state", "sequence"])
def test_a_client_that_follows_the_table_computes_what_the_module_computes(stacked, repository, is_sequence):
    stacked.reset()
    want = denoise(stacked, timesteps=TIMESTEPS)
    have = denoise(Client(repository, is_sequence=is_sequence), timesteps=TIMESTEPS)
    assert distance(have, want) < 1e-5  # float32 sums in another order, nine steps


def test_every_configuration_is_what_the_schema_says_and_the_graph_has(repository):
    for name, session in sessions(repository).items():
        config = parse_config((repository / name / "config.pbtxt").read_text())
        states = config.sequence_batching.state
        assert {t.name for t in session.get_inputs()} == {
            *(t.name for t in config.input),
            *(s.input_name for s in states),
        }
        for tensor in (*config.input, *config.output):
            (graph,) = [t for t in (*session.get_inputs(), *session.get_outputs()) if t.name == tensor.name]
            assert [size if isinstance(size, int) else -1 for size in graph.shape] == list(tensor.dims)


def test_the_table_names_what_was_exported(repository, manifest):
    table = json.loads((repository / "schedule.json").read_text())
    assert table["models"] == {"compute": "dit_compute", "reuse": "dit_reuse"}
    assert len(table["steps"]) == 9
    assert table["weights"] == manifest.model.weights


def with_manifest(monkeypatch: pytest.MonkeyPatch, manifest: Manifest) -> None:
    monkeypatch.setattr(from_bundle, "read_folder", lambda folder: manifest)


def test_a_schedule_that_decides_while_it_runs_has_no_table(bundle, manifest, tmp_path, monkeypatch):
    with_manifest(monkeypatch, replace(manifest, trajectory=replace(manifest.trajectory, steps=None)))
    with pytest.raises(LoweringError, match=r"no table of steps(.|\n)*fc\.Table"):
        export_triton(bundle, tmp_path / "repository")
    assert list(tmp_path.iterdir()) == []


def test_a_form_that_is_not_there_is_refused_with_those_there_are(bundle, tmp_path):
    with pytest.raises(TargetError, match=r"no form 1(.|\n)*form 0: hidden_states float32"):
        export_triton(bundle, tmp_path / "repository", form=1)


@pytest.mark.parametrize("name", ["../esc", "/tmp/esc", "a/b", "", ".hidden", "..", "a b", "a\n", None])
def test_a_name_that_is_none_for_a_model_is_refused_before_anything_is_written(bundle, tmp_path, name):
    with pytest.raises(TargetError, match="cannot be called"):
        export_triton(bundle, tmp_path / "inner" / "repository", name=name)
    assert list(tmp_path.iterdir()) == []


def test_batches_that_are_no_three_sizes_are_refused(bundle, tmp_path):
    for batches in ((1, 2), (1, 2, 8, 9), 2):
        with pytest.raises(TargetError, match="three sizes"):
            export_triton(bundle, tmp_path / "repository", batches=batches)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_repository_is_not_written_into_its_bundle(bundle):
    with pytest.raises(TargetError, match="lies in the bundle's own folder"):
        export_triton(bundle, bundle / "triton")
    assert not (bundle / "triton").exists()


def test_a_folder_that_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(BundleError):
        export_triton(tmp_path, tmp_path / "repository")


def test_states_and_chosen_tokens_are_in_the_table(manifest):
    graph = manifest.forms[0].modes[0].parts.whole
    given = (
        Given("ranks_1", "control", "int64", ("chosen",)),
        Given("step", "control", "int64", ()),
        Given("age", "state", "float32", (16,)),
        Given("coefficients", "coefficients", "float32", (2, 1, 2)),
    )
    partial = replace(graph, inputs=given, outputs=(Returned("age", "state", "float32", (16,), "age.new"),))
    first = replace(graph, inputs=(), outputs=(Returned("age", "state", "float32", (16,), "age"),))
    step = Step("partial", (), (((1.5, -0.5),),), (0, 3))
    assert from_bundle.inputs_of(partial, 4, step) == {
        "ranks_1": [0, 1, 2],
        "step": [4],
        "coefficients": [[[1.5, -0.5]], [[1.5, -0.5]]],
    }
    assert from_bundle.states_of([first, partial]) == {"age": ["age", "age.new"]}
