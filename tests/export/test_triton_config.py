"""`config.pbtxt` against Triton's own schema, and the graphs that are served against what they were made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from fouriercache.errors import LoweringError
from fouriercache.export.triton import ServedGraph, ServedTensor, State, as_pbtxt, model_config
from tests.export import models
from tests.export.triton_schema import parse_config

pytestmark = pytest.mark.ort

X = ServedTensor("x", "FLOAT", (-1, 16))
Y = ServedTensor("y", "FLOAT16", (-1, 16))
SLOT = ServedTensor("slot_0_0", "FLOAT", (2, 16))


@pytest.mark.parametrize("runner", ["onnxruntime", "tensorrt"])
@pytest.mark.parametrize("kind", ["gpu", "cpu"])
def test_a_configuration_is_what_the_schema_says(runner, kind):
    found = parse_config(model_config("dit_compute", runner, [X], [Y], kind=kind, instances=2))
    assert found.name == "dit_compute"
    assert found.backend == runner
    assert found.max_batch_size == 0
    assert [(t.name, t.data_type, list(t.dims)) for t in found.input] == [("x", 11, [-1, 16])]
    assert [(t.name, t.data_type, list(t.dims)) for t in found.output] == [("y", 10, [-1, 16])]
    assert found.instance_group[0].kind == {"gpu": 1, "cpu": 2}[kind]
    assert found.instance_group[0].count == 2
    assert not found.HasField("sequence_batching")


def test_what_triton_keeps_for_a_sequence_starts_as_zeros_of_its_shape():
    found = parse_config(model_config("dit", "onnxruntime", [X], [Y], states=[State(SLOT, "kept")]))
    (state,) = found.sequence_batching.state
    assert (state.input_name, state.output_name, list(state.dims)) == ("slot_0_0", "kept", [2, 16])
    assert state.initial_state[0].zero_data
    assert list(state.initial_state[0].dims) == [2, 16]
    assert found.sequence_batching.HasField("direct")


def test_the_tensorrt_provider_of_onnx_runtime_takes_its_options_as_words():
    options = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": "engines"}
    found = parse_config(model_config("dit", "onnxruntime", [X], [Y], accelerator=options))
    (accelerator,) = found.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    assert dict(accelerator.parameters) == options


def test_a_dtype_that_triton_lacks_is_refused_by_name():
    with pytest.raises(LoweringError, match="no data type for z, which is FLOAT8E4M3FN"):
        model_config("dit", "onnxruntime", [ServedTensor("z", "FLOAT8E4M3FN", (2,))], [Y])


def test_the_schema_refuses_what_it_does_not_have():
    with pytest.raises(text_format.ParseError, match="sequence_batch"):
        parse_config(as_pbtxt({"name": "x", "sequence_batch": {}}))


@given(st.text(), st.lists(st.integers(-(2**63), 2**63 - 1)), st.booleans())
def test_any_text_number_and_switch_comes_back_from_the_schema(text, numbers, switch):
    given_fields = {"name": text, "input": [{"name": text, "dims": numbers, "optional": switch}]}
    found = parse_config(as_pbtxt(given_fields))
    assert found.name == text
    assert list(found.input[0].dims) == numbers
    assert found.input[0].optional == switch


@pytest.fixture
def graph(tmp_path: Path) -> ServedGraph:
    return ServedGraph(models.step(tmp_path / "step.onnx"))


def test_scalars_become_vectors_of_one(graph):
    shapes = {tensor.name: tensor.shape for tensor in graph.inputs()}
    assert shapes["refresh"] == (1,)
    assert shapes["x"] == (-1, 16)


def test_a_sequence_of_requests_computes_what_the_graph_computes_with_its_slots_handed_in(graph, tmp_path):
    direct = onnxruntime.InferenceSession(graph.path, providers=["CPUExecutionProvider"])
    states = graph.add_states({"kept": ["slot_0_0", "slot_0_1"]}, {})
    graph.fix_batch(2)
    graph.save(tmp_path / "sequence.onnx")
    onnx.checker.check_model(tmp_path / "sequence.onnx")
    served = onnxruntime.InferenceSession(tmp_path / "sequence.onnx", providers=["CPUExecutionProvider"])
    zeros = np.zeros((2, 16), dtype=np.float32)
    kept = {state.given.name: zeros for state in states}  # by Triton, from one request to the next
    ring = [zeros, zeros]  # by a caller of the direct graph
    random = np.random.default_rng(0)
    for refresh in (True, False, True, False, False, True, True, False):
        x = random.standard_normal((2, 16), dtype=np.float32)
        scalars = {"x": x, "coefficients": np.array([1.5, -0.5], dtype=np.float32)}
        want, new = direct.run(
            ["y", "kept"], {**scalars, "refresh": np.array(refresh), "slot_0_0": ring[0], "slot_0_1": ring[1]}
        )
        ring = [new, ring[0]] if refresh else ring
        names = ["y", *(state.returned for state in states)]
        have, *returned = served.run(names, {**scalars, "refresh": np.array([refresh]), **kept})
        kept = {state.given.name: value for state, value in zip(states, returned, strict=True)}
        np.testing.assert_array_equal(have, want)
        np.testing.assert_array_equal(kept["slot_0_1"], ring[1])


def test_state_that_the_graph_does_not_have_is_refused(graph):
    with pytest.raises(LoweringError, match="has no slot_0_2"):
        graph.add_states({"kept": ["slot_0_0", "slot_0_1", "slot_0_2"]}, {})


def test_a_state_is_an_input_and_the_output_it_comes_from(graph):
    (state, *_) = graph.add_states({}, {"x": ["y.new", "y"]})
    assert (state.given.name, state.returned) == ("x", "y")
    with pytest.raises(LoweringError, match=r"has no z or z\.new"):
        graph.add_states({}, {"x": ["z", "z.new"]})


def test_a_graph_knows_the_files_its_weights_lie_in(graph):
    assert graph.weight_files() == {"step.onnx.data"}
