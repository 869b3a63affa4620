"""`fouriercache.testing` holds what it says: what it should refuse is given to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from fouriercache.passes.base import Pass
from fouriercache.passes.edit import insert_after, replace_uses
from fouriercache.program import Program
from fouriercache.testing import check_pass, compare, feed, trace

aten = torch.ops.aten
X = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class ReplaceSin(Pass):
    """Replace the first sine by something else."""

    by: Callable[..., Tensor] = field(default=aten.cos.default, repr=False)

    def rewrite(self, program: Program) -> int:
        found = list(program.graph.find_nodes(op="call_function", target=aten.sin.default))[:1]
        for node in found:
            replace_uses(node, insert_after(node, self.by, node.args[0]))
            program.graph.erase_node(node)
        return len(found)


def test_traces_a_function_with_its_own_names():
    layer = nn.Linear(8, 4)

    def fn(latents, timestep, text):
        return layer(latents) + timestep, text.exp()

    program = trace(fn, X, torch.rand(2, 1), X)
    assert [(given.name, given.role) for given in program.inputs] == [
        ("latents", "sample"),
        ("timestep", "timestep"),
        ("text", "conditioning"),
    ]
    assert [output.name for output in program.outputs] == ["result_0", "result_1"]
    assert "linear.default(%0, @layer.weight, @layer.bias)" in program.text()
    assert sorted(program.sources.values()) == ["layer.bias", "layer.weight"]


def test_traces_a_module_with_its_weights_and_its_stack():
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
    program = trace(model, X)
    assert set(program.sources.values()) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert {id(value) for value in program.attributes.values()} == {id(weight) for weight in model.parameters()}
    stacks = [list(node.meta["nn_module_stack"].values())[-1][0] for node in program.calls()]
    assert stacks == ["0", "1"]
    with torch.no_grad():
        assert torch.equal(program.module()(X)[0], model(X))


def test_traces_roles_as_they_are_given():
    program = trace(lambda x, kept: x + kept, X, X, roles={"kept": "slot"})
    assert [given.role for given in program.inputs] == ["sample", "slot"]


def test_numbers_inputs_that_have_no_names():
    program = trace(lambda *tensors: tensors[0] + tensors[1], X, X)
    assert [given.name for given in program.inputs] == ["argument_0", "argument_1"]


def test_check_pass_returns_the_text_of_what_is_made():
    program = trace(lambda x: (x * 0).sin(), X)
    text = check_pass(ReplaceSin(aten.tan.default), program, X, rewrites=1)
    assert text == trace(lambda x: (x * 0).tan(), X).text()
    assert "sin" in program.text()


def test_check_pass_wants_the_count_that_is_said():
    with pytest.raises(AssertionError, match=r"ReplaceSin\(\) made 1 rewrites, not 2(.|\n)*cos.default"):
        check_pass(ReplaceSin(), trace(lambda x: x.sin(), X), X, rewrites=2)


def test_check_pass_wants_equal_results():
    with pytest.raises(AssertionError, match=r"result_0 differs by .*, 0 is allowed"):
        check_pass(ReplaceSin(), trace(lambda x: x.sin(), X), X, rewrites=1)


def test_compare_allows_the_tolerance_that_is_written():
    program = trace(lambda x: x.sin() + 1e-4 * x.cos(), X)
    other = trace(lambda x: x.sin(), X)
    compare(other, program, X, rtol=2e-4)
    with pytest.raises(AssertionError, match="result_0 differs"):
        compare(other, program, X, rtol=2e-5)


def test_compare_tells_dtypes_and_missing_results_apart():
    one, two = trace(lambda x: x.sin(), X), trace(lambda x: (x.sin(), x), X)
    with pytest.raises(AssertionError, match=r"results \['result_1'\] are gone"):
        compare(two, one, X)
    with pytest.raises(AssertionError, match=r"result_0 was torch.float32 \[2, 8\], is torch.float64"):
        compare(one, trace(lambda x: x.sin().double(), X), X)


def test_compare_takes_equal_nan_and_infinity_for_equal():
    given = torch.tensor([0.0, -1.0, 1.0])
    compare(trace(lambda x: x.log(), given), trace(lambda x: x.log(), given), given)
    with pytest.raises(AssertionError, match="differs by inf"):
        compare(trace(lambda x: x.log(), given), trace(lambda x: x.abs().log(), given), given)


def test_feed_completes_the_state_of_a_step():
    roles = {"kept": "slot", "coefficients": "coefficients", "refresh": "refresh"}
    program = trace(
        lambda x, kept, coefficients, refresh: torch.where(refresh, x, kept * coefficients),
        X,
        X,
        torch.ones(1),
        torch.tensor(True),
        roles=roles,  # type: ignore[arg-type]
    )
    x, kept, coefficients, refresh = feed(program, {"x": X})
    assert x is X
    assert not kept.any()
    assert not coefficients.any()
    assert refresh.item() is True


def test_feed_names_an_input_it_cannot_make_up():
    program = trace(lambda x, text: x + text, X, X)
    with pytest.raises(AssertionError, match=r"input text \(conditioning\) is not given; given are x"):
        feed(program, {"x": X})
