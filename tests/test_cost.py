"""What a step costs, against torch's own counter of FLOPs and against sums by hand."""

from __future__ import annotations

from math import prod

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fouriercache.cost import ModeCost, bytes_kept, cost_of
from fouriercache.passes.base import Pipeline
from fouriercache.passes.specialize_step import SpecializeStep
from fouriercache.testing import trace
from tests import zoo
from tests.passes.stages import after, canonical_passes

X = torch.zeros(2, 8)
F32 = 4


@pytest.mark.parametrize("name", list(zoo.BUILDERS))
def test_flops_are_those_that_torch_counts_of_the_model_itself(name: str):
    model, call = zoo.build(name)
    # torch counts no fused attention on a CPU; as products of matrices it does
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(**call)
    assert cost_of(zoo.captured(name)).flops == counter.get_total_flops()


def test_activations_are_what_launches_write_and_views_write_nothing():
    cost = cost_of(trace(lambda x: (x.sin().view(4, 4).cos(), x.t()), X))
    assert cost.launches == 2
    assert cost.activations == 2 * 16 * F32
    assert cost.flops == 0


def test_results_in_several_tensors_are_all_written():
    cost = cost_of(trace(lambda x: x.max(dim=1), X))
    assert cost.activations == 2 * F32 + 2 * 8  # values in float32, indices in int64


def test_weights_are_read_and_a_slice_counts_for_what_it_shows():
    layer = nn.Linear(8, 6)

    def sliced(x: Tensor) -> Tensor:
        return F.linear(x, layer.weight[2:4], layer.bias[2:4]) + F.linear(x, layer.weight[2:4], layer.bias[2:4])

    assert cost_of(trace(lambda x: layer(x), X)).parameters_read == (6 * 8 + 6) * F32
    assert cost_of(trace(sliced, X)).parameters_read == 2 * (2 * 8 + 2) * F32


def test_kept_features_are_counted_where_they_go_in_and_where_they_come_out():
    program = zoo.captured("dit", 2)
    Pipeline(canonical_passes("branch", 3)).apply(program)
    rows = next(tensor.shape[0] for tensor in zoo.inputs("dit").values())
    feature = rows * 16 * 16 * F32  # 16 tokens of width 16
    compute, reuse = (cost_of(after(program, SpecializeStep(mode))) for mode in ("compute", "reuse"))
    assert (compute.kept_read, compute.kept_written) == (0, 4 * feature)
    assert (reuse.kept_read, reuse.kept_written) == (3 * 4 * feature, 0)
    columns = [output.name for output in program.outputs if output.role == "slot"]
    assert bytes_kept(program, columns) == 3 * 4 * feature
    assert bytes_kept(program, columns[:1]) == 3 * feature


def test_costs_of_parts_add_up():
    one, other = ModeCost(1, 2, 3, 4, 5, 6), ModeCost(10, 20, 30, 40, 50, 60)
    assert one + other == ModeCost(11, 22, 33, 44, 55, 66)
    program = trace(lambda x: x.sin() + 1, X)
    assert cost_of(program, program) == cost_of(program) + cost_of(program)
    assert cost_of(program).activations == 2 * prod(X.shape) * F32
