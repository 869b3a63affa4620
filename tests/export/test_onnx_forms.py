"""Calls that an engine runs faster than those torch writes: the same values, and whatever does not fit stays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, load

from fouriercache.export.onnx_forms import add_in_rows, move_once, read_numbers
from tests.export.onnx_rig import Shape, kinds, model, rewritten, run

pytestmark = pytest.mark.ort


def sum_behind_product(
    *, added: Shape = ("n", 4, 6), rows: int = 4, turned: bool = False, more: Sequence[str] = (), **attributes: Any
) -> Any:
    """[n, 4, 5] @ [5, 6] + `added`, all flattened; `rows` of the result stand together."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((6, 5) if turned else (5, 6), dtype=np.float32)
    width = added[-1]
    return model(
        [
            helper.make_node("Reshape", ["a", "flat_a"], ["fa"]),
            helper.make_node("Reshape", ["c", "flat_c"], ["fc"]),
            helper.make_node("Gemm", ["fa", "w", "fc"], ["g"], transB=int(turned), **attributes),
            helper.make_node("Reshape", ["g", "whole"], ["y"]),
        ],
        {"a": ("n", 4, 5), "c": added},
        {"y": ("n", rows, 6), **dict.fromkeys(more, ("m", 6))},
        {"fa": ("m", 5), "fc": ("m", width), **({} if more else {"g": ("m", 6)})},
        {"w": weight, "flat_a": [-1, 5], "flat_c": [-1, width], "whole": [-1, rows, 6]},
    )


@pytest.mark.parametrize("turned", [False, True])
def test_a_sum_behind_a_product_is_what_the_gemm_gives(turned):
    before = sum_behind_product(turned=turned)
    count, found = rewritten(before, add_in_rows)
    assert count == 1
    assert {"MatMul": 1, "Add": 1}.items() <= kinds(found).items()
    assert "Gemm" not in kinds(found)
    np.testing.assert_allclose(run(found)[0], run(before)[0], rtol=1e-6, atol=1e-6)  # rounded once more


@pytest.mark.parametrize(
    "changes",
    [{"alpha": 2.0}, {"beta": 0.5}, {"rows": 2}, {"added": ("n", 4, 1)}, {"more": ("g",)}],
    ids=["the product is scaled", "the sum is scaled", "other rows come out", "a column is added", "read flat"],
)
def test_a_gemm_that_does_more_stays(changes):
    before = sum_behind_product(**changes)
    count, found = rewritten(before, add_in_rows)
    assert count == 0
    assert kinds(found) == kinds(before)


def moves(
    sizes: Sequence[int], first: Sequence[int], joined: Sequence[int], second: Sequence[int], more: Sequence[str] = ()
) -> Any:
    """[n, *sizes], moved, joined to [n, *joined], and moved again."""
    shape: list[int | str] = ["n", *sizes]
    middle: list[int | str] = [shape[axis] for axis in first]
    after: list[int | str] = ["n", *joined]
    return model(
        [
            helper.make_node("Transpose", ["x"], ["t"], perm=first),
            helper.make_node("Reshape", ["t", "sizes"], ["r"]),
            helper.make_node("Transpose", ["r"], ["y"], perm=second),
        ],
        {"x": shape},
        {"y": [after[axis] for axis in second], **dict.fromkeys(more, middle)},
        {"r": after, **({} if more else {"t": middle})},
        {"sizes": [-1, *joined]},
    )


@st.composite
def drawn_moves(draw: st.DrawFn) -> tuple[list[int], list[int], list[int], list[int]]:
    sizes = draw(st.lists(st.integers(2, 4), min_size=1, max_size=5))
    first = [0, *draw(st.permutations(range(1, len(sizes) + 1)))]
    moved = [sizes[axis - 1] for axis in first[1:]]
    cuts = sorted(draw(st.sets(st.integers(1, len(moved) - 1)))) if len(moved) > 1 else []
    joined = [int(np.prod(moved[a:b])) for a, b in zip([0, *cuts], [*cuts, len(moved)], strict=True)]
    return sizes, first, joined, list(draw(st.permutations(range(len(joined) + 1))))


@settings(max_examples=25, deadline=None)
@given(drawn_moves())
def test_two_moves_are_one(drawn):
    before = moves(*drawn)
    count, found = rewritten(before, move_once)
    assert count == 1
    assert kinds(found)["Transpose"] == 1
    np.testing.assert_array_equal(run(found)[0], run(before)[0])


@pytest.mark.parametrize(
    ("sizes", "first", "joined", "second", "more"),
    [
        ((4, 6), (0, 2, 1), (8, 3), (0, 2, 1), ()),
        ((4, 6), (0, 2, 1), (2, 3, 4), (0, 3, 1, 2), ()),
        ((4, 6), (0, 2, 1), (24,), (1, 0), ("t",)),
    ],
    ids=["cut elsewhere", "an axis is cut in two", "read between"],
)
def test_moves_that_are_not_one_stay(sizes, first, joined, second, more):
    before = moves(sizes, first, joined, second, more)
    count, found = rewritten(before, move_once)
    assert count == 0
    assert kinds(found) == kinds(before)


def scaled(*, kind: str = "Mul", other: Shape = ("n", 4), axis: int = 0, more: Sequence[str] = ()) -> Any:
    """The second of three numbers, times another tensor."""
    return model(
        [
            helper.make_node("Gather", ["c", "one"], ["s"], axis=axis),
            helper.make_node(kind, ["x", "s"], ["y"]),
        ],
        {"c": (3,), "x": other},
        {"y": other, **dict.fromkeys(more, ())},
        {} if more else {"s": ()},
        {"one": np.int64(1)},
    )


@pytest.mark.parametrize("kind", ["Mul", "Add", "Sub", "Div"])
def test_a_number_that_scales_a_tensor_is_read_as_a_list_of_one(kind):
    before = scaled(kind=kind)
    count, found = rewritten(before, read_numbers)
    assert count == 1
    np.testing.assert_array_equal(run(found)[0], run(before)[0])


@pytest.mark.parametrize(
    "changes", [{"kind": "Max"}, {"other": ()}, {"more": ("s",)}], ids=["another call", "of a number", "returned"]
)
def test_a_number_whose_shape_shows_stays(changes):
    before = scaled(**changes)
    count, found = rewritten(before, read_numbers)
    assert count == 0
    np.testing.assert_array_equal(run(found)[0], run(before)[0])


def test_a_cached_step_adds_its_features_in_rows(bundle: Path):
    found = kinds(load(bundle / "reuse.moving.onnx", load_external_data=False))
    assert "Gemm" not in found
    assert found["MatMul"] == 2, "the patches' and that behind the blocks"
