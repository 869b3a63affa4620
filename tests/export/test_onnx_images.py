"""Images that ONNX's own calls cut and put together: bit for bit what six axes that change places give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, load

from fouriercache.export.onnx_images import cut_images, put_images_together
from tests.export.onnx_rig import kinds, model, rewritten, run

pytestmark = pytest.mark.ort


def cut(
    *,
    size: Sequence[int] = (2, 2),
    kernel: Sequence[int] = (2, 2),
    perm: Sequence[int] = (0, 2, 4, 1, 3, 5),
    more: Sequence[str] = (),
    **options: Any,
) -> Any:
    """Images of 3 channels in 4 x 5 patches, times a convolution's weight that has 6 outputs."""
    high, wide = size
    kind = np.float16 if options.get("dtype") == TensorProto.FLOAT16 else np.float32
    weight = np.random.default_rng(0).standard_normal((6, 3, *kernel)).astype(kind)
    apart: list[int | str] = ["n", 3, 4, high, 5, wide]
    return model(
        [
            helper.make_node("Reshape", ["x", "apart"], ["a"]),
            helper.make_node("Transpose", ["a"], ["t"], perm=perm),
            helper.make_node("Reshape", ["t", "rows"], ["r"]),
            helper.make_node("Reshape", ["w", "flat"], ["wf"]),
            helper.make_node("Transpose", ["wf"], ["wt"], perm=[1, 0]),
            helper.make_node("MatMul", ["r", "wt"], ["y"]),
        ],
        {"x": ("n", 3, 4 * high, 5 * wide)},
        {"y": ("n", 20, 6), **dict.fromkeys(more, ("n", 20, 3 * high * wide))},
        {"a": apart, "t": [apart[axis] for axis in perm], **({} if more else {"r": ("n", 20, 3 * high * wide)})},
        {"w": weight, "apart": [-1, *apart[1:]], "rows": [-1, 20, 3 * high * wide], "flat": [6, -1]},
        **options,
    )


@pytest.mark.parametrize("size", [2, 4])
def test_patches_are_cut_as_before(size):
    before = cut(size=(size, size), kernel=(size, size))
    count, found = rewritten(before, cut_images)
    assert count == 1
    assert kinds(found)["SpaceToDepth"] == 1
    np.testing.assert_allclose(run(found)[0], run(before)[0], rtol=1e-5, atol=1e-5)  # summed in another order


@pytest.mark.parametrize(
    "changes",
    [
        {"size": (2, 4), "kernel": (2, 4)},
        {"kernel": (4, 1)},
        {"perm": (0, 2, 4, 1, 5, 3)},
        {"more": ("r",)},
        {"dtype": TensorProto.FLOAT16},
    ],
    ids=["not square", "a weight of another form", "turned", "read elsewhere", "float16"],
)
def test_what_is_cut_otherwise_stays(changes):
    before = cut(**changes)
    count, found = rewritten(before, cut_images)
    assert count == 0
    assert kinds(found) == kinds(before)


def put(
    *,
    perm: Sequence[int] = (0, 5, 1, 3, 2, 4),
    size: Sequence[int] = (2, 2),
    more: Sequence[str] = (),
    frames: int | None = None,
    **options: Any,
) -> Any:
    """4 x 5 patches of 3 channels, put together to images."""
    high, wide = size
    channels_last = perm[1] == 5
    cells = [high, wide, 3] if channels_last else [3, high, wide]
    apart: list[int | str] = ["n", 4, 5, *cells]
    image: list[int | str] = ["n", 3, 4 * high, 5 * wide]
    last: list[int | str] = image if frames is None else ["n", 3, frames, 4 * high // frames, 5 * wide]
    moved = tuple(apart[axis] for axis in perm)
    return model(
        [
            helper.make_node("Reshape", ["x", "apart"], ["a"]),
            helper.make_node("Transpose", ["a"], ["t"], perm=perm),
            helper.make_node("Reshape", ["t", "image"], ["y"]),
        ],
        {"x": ("n", 20, 3 * high * wide)},
        {"y": last, **dict.fromkeys(more, moved)},
        {"a": apart, **({} if more else {"t": moved})},
        {"apart": [-1, *apart[1:]], "image": [-1, *last[1:]]},
        **options,
    )


@pytest.mark.parametrize("perm", [(0, 5, 1, 3, 2, 4), (0, 3, 1, 4, 2, 5)], ids=["channels last", "channels first"])
@pytest.mark.parametrize("size", [2, 4])
def test_images_are_put_together_as_before(perm, size):
    before = put(perm=perm, size=(size, size))
    count, found = rewritten(before, put_images_together)
    assert count == 1
    assert kinds(found)["DepthToSpace"] == 1
    np.testing.assert_array_equal(run(found)[0], run(before)[0])


@pytest.mark.parametrize(
    "changes",
    [{"size": (2, 4)}, {"perm": (0, 5, 1, 4, 2, 3)}, {"more": ("t",)}, {"frames": 2}, {"dtype": TensorProto.FLOAT16}],
    ids=["not square", "turned", "read elsewhere", "a video", "float16"],
)
def test_what_is_put_together_otherwise_stays(changes):
    before = put(**changes)
    count, found = rewritten(before, put_images_together)
    assert count == 0
    assert kinds(found) == kinds(before)


@pytest.mark.parametrize("file", ["compute.onnx", "reuse.onnx", "compute.moving.onnx", "reuse.moving.onnx"])
def test_a_bundle_cuts_an_image_once_and_puts_it_together_once(bundle: Path, file: str):
    nodes = load(bundle / file, load_external_data=False).graph.node
    found = [node.op_type for node in nodes]
    assert (found.count("SpaceToDepth"), found.count("DepthToSpace")) == (1, 1)
    assert not [node for node in nodes if node.op_type == "Transpose" and len(node.attribute[0].ints) == 6]
