"""Patches as rows of a matrix: the same values, and whatever is no cut into patches stays a convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from fouriercache.export.onnx_patches import multiply_patches

pytestmark = pytest.mark.ort


def embedding(
    sizes: Sequence[int] = (8, 6), kernel: Sequence[int] = (4, 2), *, more: Sequence[str] = (), **changes: Any
) -> Any:
    """A convolution of 3 channels to 5, its output as [n, patches, 5]; `changes` are its attributes."""
    given = {"kernel_shape": kernel, "strides": kernel, **changes}
    patches = [(s + sum(given.get("pads", [0] * 4)[i::2]) - k) // d + 1
               for i, (s, k, d) in enumerate(zip(sizes, kernel, given["strides"], strict=True))]  # fmt: skip
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((5, 3 // given.get("group", 1), *kernel), dtype=np.float32),
               "b": rng.standard_normal(5, dtype=np.float32), "flat": np.array([0, 5, -1])}  # fmt: skip
    count = int(np.prod(patches))
    shapes = {"c": ["n", 5, *patches], "f": ["n", 5, count], "y": ["n", count, 5]}
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w", "b"], ["c"], **given),
            helper.make_node("Reshape", ["c", "flat"], ["f"]),
            helper.make_node("Transpose", ["f"], ["y"], perm=[0, 2, 1]),
        ],
        "main_graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, *sizes])],
        [values["y"], *(values[name] for name in more)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
        value_info=[values[name] for name in ("c", "f")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model: Any, sizes: Sequence[int]) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).standard_normal((2, 3, *sizes), dtype=np.float32)
    found: list[np.ndarray] = session.run(None, {"x": x})
    return found


def rewritten(model: Any) -> tuple[int, Any]:
    import onnx
    import onnx_ir

    found = onnx_ir.from_proto(model)
    count = multiply_patches(found)
    written = onnx_ir.to_proto(found)
    onnx.checker.check_model(written, full_check=True)
    return count, written


@pytest.mark.parametrize(("sizes", "kernel"), [((8, 6), (4, 2)), ((4, 8, 6), (1, 4, 2)), ((8,), (2,))])
def test_patches_in_rows_are_what_the_convolution_gives(sizes, kernel):
    model = embedding(sizes, kernel, pads=[0] * 2 * len(kernel))
    count, found = rewritten(model)
    assert count == 1
    assert "Conv" not in {node.op_type for node in found.graph.node}
    np.testing.assert_allclose(run(found, sizes)[0], run(model, sizes)[0], rtol=1e-5, atol=1e-5)  # another order


@pytest.mark.parametrize(
    "changes",
    [{"strides": (2, 2)}, {"pads": [0, 0, 4, 0]}, {"more": ("c",)}, {"more": ("f",)}, {"sizes": (9, 6)}],
    ids=["windows overlap", "padded", "read elsewhere", "read elsewhere, flat", "a rest is cut off"],
)
def test_what_is_no_cut_into_patches_stays(changes):
    model = embedding(**changes)
    count, found = rewritten(model)
    assert count == 0
    assert [node.op_type for node in found.graph.node] == ["Conv", "Reshape", "Transpose"]


def test_a_window_with_gaps_stays():
    import onnx_ir

    model = embedding()
    model.graph.node[0].attribute.append(helper.make_attribute("dilations", [2, 2]))
    assert multiply_patches(onnx_ir.from_proto(model)) == 0
