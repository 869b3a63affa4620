"""FuseUpdate: one addcmul for each slot, whatever gate, dtype and place the prediction has."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fouriercache import ops
from fouriercache.passes.fuse_update import FuseUpdate
from fouriercache.program import Program
from fouriercache.testing import check_pass, trace

X = torch.randn(2, 4, 8)
GATE = torch.randn(2, 1, 8)
SLOTS = [torch.randn(2, 4, 8) for _ in range(2)]
COEFFICIENTS = torch.tensor([1.5, -0.5])
ROUNDING = 2**-20  # three additions in another order, float32


def cached(fn: object, *extra: Tensor, dtype: torch.dtype = torch.float32) -> tuple[Program, list[Tensor]]:
    """Trace `fn(x, *extra, slot_0_0, slot_0_1, coefficients)` as a program with one site of history 2."""
    given = [X.to(dtype), *extra, *(slot.to(dtype) for slot in SLOTS), COEFFICIENTS]
    program = trace(
        fn,  # type: ignore[arg-type]
        *given,
        roles={"slot_0_0": "slot", "slot_0_1": "slot", "coefficients": "coefficients"},
    )
    program.history = 2
    return program, given


def predict(slots: list[Tensor], coefficients: Tensor) -> Tensor:
    value: Tensor = ops.predict(ops.cache_lookup(slots), coefficients)
    return value


def launches(program: Program) -> list[str]:
    return [str(node.target) for node in program.calls()]


def test_sums_an_ungated_prediction_into_the_stream() -> None:
    def before(x: Tensor, slot_0_0: Tensor, slot_0_1: Tensor, coefficients: Tensor) -> Tensor:
        return x.sin() + predict([slot_0_0, slot_0_1], coefficients)

    def expected(x: Tensor, slot_0_0: Tensor, slot_0_1: Tensor, coefficients: Tensor) -> Tensor:
        stream = x.sin()
        newest, older = coefficients[0], coefficients[1]
        return torch.addcmul(torch.addcmul(stream, slot_0_0, newest), slot_0_1, older)

    program, given = cached(before)
    text = check_pass(FuseUpdate(), program, given, rewrites=1, rtol=ROUNDING)
    assert text.count("addcmul") == cached(expected)[0].text().count("addcmul") == 2
    assert "predict" not in text
    assert "cache_lookup" not in text


def test_multiplies_the_gate_into_the_coefficients_and_not_into_the_tokens() -> None:
    def before(x: Tensor, gate: Tensor, slot_0_0: Tensor, slot_0_1: Tensor, coefficients: Tensor) -> Tensor:
        return gate * predict([slot_0_0, slot_0_1], coefficients) + x.sin()

    program, given = cached(before, GATE)
    text = check_pass(FuseUpdate(), program, given, rewrites=1, rtol=ROUNDING)
    products = [line for line in text.splitlines() if "mul.Tensor" in line]
    assert len(products) == 1
    assert "[2,2,1,1,8]" in products[0]  # slots, batch, sites, tokens, channels: no token is touched


def test_stacks_the_gates_of_two_sites_into_one_product() -> None:
    def before(x: Tensor, a: Tensor, b: Tensor, slot_0_0: Tensor, slot_0_1: Tensor, coefficients: Tensor) -> Tensor:
        first = x.sin() + a * predict([slot_0_0, slot_0_1], coefficients)
        return first + b * predict([slot_0_1, slot_0_0], coefficients)

    program, given = cached(before, GATE, GATE * 2)
    text = check_pass(FuseUpdate(), program, given, rewrites=2, rtol=ROUNDING)
    assert text.count("mul.Tensor") == 1
    assert text.count("addcmul") == 4


def test_scales_a_gate_that_depends_on_the_latents_where_it_is_computed() -> None:
    def before(x: Tensor, slot_0_0: Tensor, slot_0_1: Tensor, coefficients: Tensor) -> Tensor:
        gate = x.mean(dim=1, keepdim=True)
        return x.sin() + gate * predict([slot_0_0, slot_0_1], coefficients)

    program, given = cached(before)
    check_pass(FuseUpdate(), program, given, rewrites=1, rtol=ROUNDING)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_a_half_precision_stream_in_float32(dtype: torch.dtype) -> None:
    def before(x: Tensor, gate: Tensor, slot_0_0: Tensor, slot_0_1: Tensor, coefficients: Tensor) -> Tensor:
        return x.sin() + gate * predict([slot_0_0, slot_0_1], coefficients)

    program, given = cached(before, GATE.to(dtype), dtype=dtype)
    # The program before rounds prediction, product and sum; the one after rounds once.
    text = check_pass(FuseUpdate(), program, given, rewrites=1, rtol=3 * torch.finfo(dtype).eps)
    assert all("f32" in line for line in text.splitlines() if "addcmul" in line)


def test_keeps_a_prediction_that_two_nodes_read_as_a_weighted_sum() -> None:
    def before(x: Tensor, slot_0_0: Tensor, slot_0_1: Tensor, coefficients: Tensor) -> Tensor:
        value = predict([slot_0_0, slot_0_1], coefficients)
        return (x + value) * value.cos()

    program, given = cached(before)
    check_pass(FuseUpdate(), program, given, rewrites=1, rtol=2**-18)  # the product doubles the error of the sum
    FuseUpdate().apply(program)
    assert "2 nodes read the prediction" in program.refused["FuseUpdate"][0].reason


def test_leaves_a_program_without_predictions_alone() -> None:
    def before(x: Tensor) -> Tensor:
        return x.sin()

    check_pass(FuseUpdate(), trace(before, X), X, rewrites=0)
