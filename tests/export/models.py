"""ONNX models made by hand, small enough to build a plan of in a quarter of a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 16


def save(path: Path, nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], **shapes: list[int | str]) -> Path:
    """Save a model from `x` (and what else `shapes` names) to `y`, float32, weights in a file beside it."""
    graph = helper.make_graph(
        nodes,
        "main_graph",
        [
            helper.make_tensor_value_info(name, TensorProto.BOOL if name == "refresh" else TensorProto.FLOAT, shape)
            for name, shape in shapes.items()
            if name != "y"
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shapes["y"])],
        [numpy_helper.from_array(weight, name) for name, weight in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path.with_name(f"{path.name}.data").unlink(missing_ok=True)  # onnx would append to it
    onnx.save(
        model,
        path,
        save_as_external_data=True,
        location=f"{path.name}.data",
        size_threshold=0,
    )
    return path


def weight(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def mlp(path: Path, *, batch: int | str = "batch", seed: int = 0) -> Path:
    """Two matrix products, [batch, 16] to [batch, 16]; 4,096 bytes of weights."""
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["h"], name="up"),
        helper.make_node("Gelu", ["h"], ["g"], name="bend"),
        helper.make_node("MatMul", ["g", "w1"], ["y"], name="down"),
    ]
    weights = {"w0": weight(WIDTH, 2 * WIDTH, seed=seed), "w1": weight(2 * WIDTH, WIDTH, seed=seed + 1)}
    return save(path, nodes, weights, x=[batch, WIDTH], y=[batch, WIDTH])


def branch(path: Path) -> Path:
    """One `If`: a matrix product where `refresh` is true, twice the input otherwise."""
    out = [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", WIDTH])]
    computed = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["z"], name="compute")], "then_body", [], out)
    reused = helper.make_graph([helper.make_node("Add", ["x", "x"], ["z"], name="reuse")], "else_body", [], out)
    node = helper.make_node("If", ["refresh"], ["y"], name="step", then_branch=computed, else_branch=reused)
    weights = {"w": weight(WIDTH, WIDTH)}
    return save(path, [node], weights, x=["batch", WIDTH], refresh=[], y=["batch", WIDTH])


def attention(path: Path, *, layers: int = 2) -> Path:
    """Attention over 256 tokens in 4 heads of 64, float16, in the parts that exporters write; the input is q, k, v."""
    nodes = [helper.make_node("Cast", ["x"], ["a0"], to=TensorProto.FLOAT16)]
    for layer in range(layers):
        nodes += [
            helper.make_node("Transpose", [f"a{layer}"], [f"k{layer}"], perm=[0, 1, 3, 2]),
            helper.make_node("MatMul", [f"a{layer}", f"k{layer}"], [f"s{layer}"]),
            helper.make_node("Mul", [f"s{layer}", "scale"], [f"t{layer}"]),
            helper.make_node("Softmax", [f"t{layer}"], [f"p{layer}"], axis=-1),
            helper.make_node("MatMul", [f"p{layer}", f"a{layer}"], [f"a{layer + 1}"]),
        ]
    nodes.append(helper.make_node("Cast", [f"a{layers}"], ["y"], to=TensorProto.FLOAT))
    scale = {"scale": np.array(0.125, dtype=np.float16)}
    return save(path, nodes, scale, x=["batch", 4, 256, 64], y=["batch", 4, 256, 64])


def spectrum(path: Path, *, transforms: int = 1) -> Path:
    """Discrete Fourier transforms, which TensorRT does not take."""
    nodes = [
        helper.make_node("DFT", ["x"], [f"f{number}"], name=f"transform_{number}", axis=1)
        for number in range(transforms)
    ]
    nodes.append(helper.make_node("Sum", [f"f{number}" for number in range(transforms)], ["y"], name="total"))
    return save(path, nodes, {}, x=["batch", WIDTH, 1], y=["batch", WIDTH, 2])


def step(path: Path) -> Path:
    """A single graph with one `If`, two slots and their coefficients, as the package's own have.

    Where `refresh` is true: y = x w, kept = x w. Otherwise y = c0 slot_0_0 + c1 slot_0_1, kept = slot_0_0.
    """
    out = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDTH]) for name in ("z", "k")]
    computed = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Identity", ["z"], ["k"])],
        "then_body",
        [],
        out,
    )
    reused = helper.make_graph(
        [
            helper.make_node("Split", ["coefficients"], ["c0", "c1"], axis=0, num_outputs=2),
            helper.make_node("Mul", ["slot_0_0", "c0"], ["a"]),
            helper.make_node("Mul", ["slot_0_1", "c1"], ["b"]),
            helper.make_node("Add", ["a", "b"], ["z"]),
            helper.make_node("Identity", ["slot_0_0"], ["k"]),
        ],
        "else_body",
        [],
        out,
    )
    node = helper.make_node("If", ["refresh"], ["y", "kept"], name="step", then_branch=computed, else_branch=reused)
    row: list[int | str] = ["batch", WIDTH]
    path = save(path, [node], {"w": weight(WIDTH, WIDTH)}, x=row, slot_0_0=row, slot_0_1=row, coefficients=[2],
                refresh=[], y=row)  # fmt: skip
    model = onnx.load(path, load_external_data=False)
    model.graph.output.append(helper.make_tensor_value_info("kept", TensorProto.FLOAT, row))
    onnx.save(model, path)
    return path
