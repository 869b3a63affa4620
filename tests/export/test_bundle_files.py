"""What `export` writes: ONNX graphs that compute what the programs compute, weights once, nothing of this machine."""

from __future__ import annotations

import dataclasses
import getpass
import json
import os
from pathlib import Path

import pytest
import torch

import fouriercache as fc
from fouriercache.bundle.algebra import method_from_plain, method_to_plain
from fouriercache.bundle.manifest import Graph, read_manifest
from fouriercache.errors import BundleError
from fouriercache.export.onnx_graph import translate
from fouriercache.presets import PRESETS
from fouriercache.testing import feed
from tests.tiny import labels, noise, step_inputs, tiny_dit

pytestmark = pytest.mark.ort
CALL = step_inputs(noise(), 500, labels())


@pytest.fixture(scope="module")
def folder(bundle: Path) -> Path:
    return bundle


def run(folder: Path, graph: Graph, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / graph.file, providers=["CPUExecutionProvider"])
    given = {entry.name: inputs[entry.name].numpy() for entry in graph.inputs}
    return [torch.from_numpy(value) for value in session.run(None, given)]


@pytest.mark.parametrize("name", ["compute", "reuse", "cond"])
@pytest.mark.parametrize("batch", [1, 3])
def test_each_graph_computes_what_its_program_computes_at_any_batch(stacked, folder, manifest, name, batch):
    form = manifest.forms[0]
    graphs = {mode.mode: mode.parts.whole for mode in form.modes} | {"cond": form.single}
    program = stacked.program(name)
    rows = {key: value.repeat_interleave(2, 0)[:batch] for key, value in CALL.items()}
    slots = {f"slot_0_{age}": torch.randn(batch, 16, 16) for age in range(2)}
    inputs = {**rows, **slots, "coefficients": torch.tensor([1.5, -0.5]), "refresh": torch.tensor(False)}
    with torch.no_grad():
        want = program.module()(*feed(program, inputs))
    have = run(folder, graphs[name], inputs)
    assert [output.name for output in graphs[name].outputs] == [output.name for output in program.outputs]
    for one, other in zip(have, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)  # float32 sums in another order


def test_the_parts_of_a_mode_compute_what_the_whole_computes(folder, manifest):
    for mode in manifest.forms[0].modes:
        parts = mode.parts
        known = {**CALL, "coefficients": torch.tensor([1.5, -0.5])}
        known |= {f"slot_0_{age}": torch.randn(2, 16, 16) for age in range(2)}
        want = run(folder, parts.whole, known)
        for part in (parts.context, parts.timed):
            assert part is not None
            found = run(folder, part, known)
            known |= {f"hoisted_{output.name}": value for output, value in zip(part.outputs, found, strict=True)}
        have = run(folder, parts.moving, known)
        assert all(torch.equal(one, other) for one, other in zip(have, want, strict=True))
        assert "timestep" not in [given.name for given in parts.moving.inputs]


def test_every_weight_stands_once_in_the_one_weight_file(stacked, folder, manifest):
    import onnx

    places: dict[tuple[int, int], set[bytes]] = {}
    shared = 0
    content = (folder / "weights.bin").read_bytes()
    files = [file for file in folder.iterdir() if file.suffix == ".onnx"]
    for file in files:
        for weight in onnx.load(file, load_external_data=False).graph.initializer:
            if weight.data_location != onnx.TensorProto.EXTERNAL:
                assert weight.ByteSize() < 200, "shapes, axes and scalars alone stay in a graph"
                continue
            entries = {entry.key: entry.value for entry in weight.external_data}
            assert entries["location"] == "weights.bin"
            place = int(entries["offset"]), int(entries["length"])
            shared += place in places
            places.setdefault(place, set()).add(content[place[0] : sum(place)])
    assert len(set.union(*places.values())) == len(places), "two places hold the same bytes"
    assert shared > len(places)
    model = sum(weight.nbytes for weight in stacked.model.state_dict().values())
    assert sum(length for _, length in places) < 1.1 * model


def test_no_file_says_where_it_was_made(folder):
    words = [os.fsencode(Path(__file__).parents[2]), os.fsencode(Path.home()), b"site-packages", b".py", b"/tmp/"]
    words += [getpass.getuser().encode()] if len(getpass.getuser()) > 4 else []
    for path in folder.iterdir():
        assert [word for word in words if word in path.read_bytes()] == [], path.name


def test_the_same_program_is_written_with_the_same_bytes(stacked):
    import onnx_ir

    program = stacked.program("reuse")
    one, other = (onnx_ir.to_proto(translate(program)).SerializeToString(deterministic=True) for _ in range(2))
    assert one == other


def test_a_value_that_is_returned_under_several_names_has_each_of_them():
    import onnx
    import onnx_ir

    fast = fc.optimize(tiny_dit(), fc.ToCa(), num_steps=9, example_inputs=CALL)
    program = fast.program("compute")  # the tokens of both blocks are of age 0, which torch writes as one value
    model = onnx_ir.to_proto(translate(program))
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.output] == [output.name for output in program.outputs]


def test_a_manifest_says_all_and_reads_back_as_it_was(stacked, folder, manifest):
    assert manifest.method == stacked.method
    assert manifest.trajectory.num_steps == 9
    assert [step.mode for step in manifest.trajectory.steps or ()] == [
        "compute" if step in (stacked.schedule or ()) else "reuse" for step in range(9)
    ]
    assert read_manifest(manifest.text()) == manifest
    assert json.loads((folder / "manifest.json").read_text())["schema"] == 1


@pytest.mark.parametrize("dtype", [torch.float16, pytest.param(torch.bfloat16, marks=pytest.mark.exhaustive)])
def test_half_precision_is_written_as_half_precision(dtype):
    import onnx
    import onnx_ir

    call = {**CALL, "hidden_states": noise().to(dtype)}
    fast = fc.optimize(tiny_dit().to(dtype), fc.FORA(3, site="stack"), num_steps=9, example_inputs=call)
    model = onnx_ir.to_proto(translate(fast.program("compute")))
    onnx.checker.check_model(model, full_check=True)
    kind = {torch.float16: onnx.TensorProto.FLOAT16, torch.bfloat16: onnx.TensorProto.BFLOAT16}[dtype]
    weights = [weight for weight in model.graph.initializer if weight.name.startswith("weight_")]
    assert weights
    assert {weight.data_type for weight in weights} == {kind}
    assert {output.type.tensor_type.elem_type for output in model.graph.output} == {kind}


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_is_built_again_from_its_data(name):
    method = fc.method_from_name(name)
    plain = json.loads(json.dumps(method_to_plain(method)))
    assert method_from_plain(plain) == method


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "Popen"}, "does not know"),
        ({"interval": 3}, "has a Method with the fields"),
        ({"site": "everywhere"}, "cannot be built"),
        ({"schedule": {"type": "Reuse"}}, "cannot be built"),
    ],
)
def test_a_method_that_makes_no_sense_is_refused(change, message):
    with pytest.raises(BundleError, match=message):
        method_from_plain({**method_to_plain(fc.FORA()), **change})


def test_a_method_with_a_part_of_the_users_own_is_refused_by_name():
    @dataclasses.dataclass(frozen=True)
    class Mine(type(fc.FORA().schedule)):  # type: ignore[misc]
        pass

    with pytest.raises(BundleError, match="Mine"):
        method_to_plain(fc.FORA().with_(schedule=Mine(3)))
