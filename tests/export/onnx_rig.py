"""Small ONNX graphs, rewritten and run: what the tests of rewrites share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from onnx import TensorProto, helper, numpy_helper

Shape: TypeAlias = Sequence[int | str]


def model(
    nodes: Sequence[Any],
    inputs: Mapping[str, Shape],
    outputs: Mapping[str, Shape],
    inner: Mapping[str, Shape],
    constants: Mapping[str, Any],
    *,
    dtype: int = TensorProto.FLOAT,
) -> Any:
    """A graph; every value that is no constant has the dtype."""

    def describe(values: Mapping[str, Shape]) -> list[Any]:
        return [helper.make_tensor_value_info(name, dtype, shape) for name, shape in values.items()]

    graph = helper.make_graph(
        list(nodes),
        "main_graph",
        describe(inputs),
        describe(outputs),
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        value_info=describe(inner),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


def rewritten(before: Any, rewrite: Callable[[Any], int]) -> tuple[int, Any]:
    """How many rewrites were made, and the graph then: ONNX's checker takes it, and a second run changes nothing."""
    import onnx
    import onnx_ir

    found = onnx_ir.from_proto(before)
    count = rewrite(found)
    assert rewrite(found) == 0, "nothing is left to be written"
    written = onnx_ir.to_proto(found)
    onnx.checker.check_model(written, full_check=True)
    return count, written


def run(model: Any, batch: int = 3) -> list[np.ndarray]:
    """The results for drawn inputs."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(1)
    feeds = {}
    for given in session.get_inputs():
        shape = [batch if isinstance(size, str) else size for size in given.shape]
        drawn = rng.standard_normal(shape, dtype=np.float32)
        feeds[given.name] = drawn.astype(np.float16) if given.type == "tensor(float16)" else drawn
    found: list[np.ndarray] = session.run(None, feeds)
    return found


def kinds(model: Any) -> dict[str, int]:
    """How many calls of each kind there are."""
    return Counter(node.op_type for node in model.graph.node)
