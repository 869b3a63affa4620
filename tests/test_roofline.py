"""Seconds that the roofline model predicts of single programs, against sums by hand."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from launches import CountCalls

import fouriercache as fc
from fouriercache.cost import work_of
from fouriercache.cost.measure import _median
from fouriercache.testing import trace

ONE = fc.Device("one", {"float32": 1.0}, 1.0, launch=1.0, fused_norms=False)
"""A second for each FLOP, byte and launch."""


def test_each_call_takes_its_launch_and_the_larger_of_arithmetic_and_traffic():
    x, weight = torch.zeros(2, 8), torch.zeros(8, 4)
    program = trace(lambda x, weight: (x @ weight, x.sin()), x, weight)
    arithmetic, traffic = 2 * 2 * 8 * 4, 4 * (2 * 8 + 8 * 4 + 2 * 4)
    sine = 4 * (2 * 8 + 2 * 8)
    assert work_of([program], ONE).seconds == 2 + max(arithmetic, traffic) + sine
    fast = replace(ONE, bandwidth=1e9)
    assert work_of([program], fast).seconds == pytest.approx(2 + arithmetic)
    small = replace(ONE, bandwidth=1.0, caches=((sine, 2.0),))  # only the sine fits into the cache
    assert work_of([program], small).seconds == 2 + max(arithmetic, traffic) + sine / 2


def test_an_operand_comes_from_a_cache_if_little_was_touched_since_its_last_use():
    program = trace(lambda x: (x.sin(), x.cos()), torch.zeros(2, 8))
    one = 4 * 2 * 8  # bytes of each value; both calls touch two
    cached = replace(ONE, launch=0.0, caches=((3 * one, 2.0),))
    assert work_of([program], replace(cached, caches=((4 * one, 2.0),))).seconds == 4 * one / 2
    assert work_of([program], cached).seconds == one + 3 * one / 2  # from the last run to this one, four were touched
    assert work_of([program], replace(cached, caches=((4 * one, 2.0),)), between=1).seconds == one + 3 * one / 2


def test_functions_take_time_by_element_and_add_up_with_traffic_where_nothing_overlaps():
    program = trace(lambda x: (F.gelu(x, approximate="tanh"), x.view(16) + 1), torch.zeros(2, 8))
    device = replace(ONE, bandwidth=64.0, functions={"gelu_tanh": 4.0, "gelu": 1.0})
    assert work_of([program], device).seconds == 2 + max(16 / 4, 2) + 2
    assert work_of([program], replace(device, overlaps=False, view=0.5)).seconds == 2 + 16 / 4 + 2 + 2 + 0.5


def test_products_read_what_no_cache_holds_at_a_pace_of_their_own_and_convolutions_reach_a_share():
    x, image = torch.zeros(2, 8), torch.zeros(1, 2, 4, 4)
    product = trace(lambda x, weight: x @ weight, x, torch.zeros(8, 4))
    device = replace(ONE, peaks={"float32": 1e9}, launch=0.0, products=0.5, overlaps=False)
    read, written = 4 * (2 * 8 + 8 * 4), 4 * 2 * 4
    assert work_of([product], device).seconds == pytest.approx(read / 0.5 + written)
    convolved = trace(lambda x, w: F.conv2d(x, w, padding=1), image, torch.zeros(2, 2, 3, 3))
    flops = 2 * 2 * 16 * 2 * 9
    assert work_of([convolved], replace(ONE, bandwidth=1e9, convolution=0.5)).seconds == pytest.approx(1 + flops / 0.5)


def test_what_a_model_writes_in_place_is_predicted_from_a_graph_that_makes_it_anew():
    def turned(x: torch.Tensor) -> torch.Tensor:
        whole = torch.empty_like(x)
        whole[:, :4] = x[:, 4:].neg()
        whole[:, 4:] = x[:, :4]
        return whole.sin()

    def anew(x: torch.Tensor) -> Any:
        whole = torch.empty_like(x)
        left = torch.ops.aten.copy(whole[:, :4], x[:, 4:].neg())
        whole = torch.ops.aten.slice_scatter(whole, left, 1, 0, 4)
        return torch.ops.aten.slice_scatter(whole, x[:, :4], 1, 4, 8).sin()  # as replace_writes has it

    x = torch.zeros(2, 8)
    with CountCalls() as calls:
        turned(x)
    work = work_of([trace(anew, x)], ONE, is_model=True)
    assert (work.launches, work.moved) == (calls.launches, calls.moved)
    assert work_of([trace(anew, x)], ONE).launches == calls.launches + 1


def test_dropout_that_is_off_costs_the_model_nothing_and_a_graph_the_copy_that_it_has():
    program = trace(lambda x: x.sin().clone(), torch.zeros(2, 8))
    assert [work_of([program], ONE, is_model=is_model).launches for is_model in (False, True)] == [2, 2]
    *_, copy = program.calls()
    copy.meta["nn_module_stack"] = {"drop": ("drop", "torch.nn.modules.dropout.Dropout")}
    assert [work_of([program], ONE, is_model=is_model).launches for is_model in (False, True)] == [2, 1]


def test_what_calls_follow_on_is_done_before_each_and_is_not_in_their_time():
    done: list[str] = []

    def before() -> None:
        done.append("before")
        time.sleep(0.05)

    assert _median(lambda: done.append("call"), 0.0, before) < 0.01
    assert done[1:] == ["before", "call"] * 3  # after one that is not counted


def test_a_model_takes_time_to_call_its_modules_and_a_graph_has_none():
    program = trace(lambda x: (x.sin(), x.cos(), x.exp()), torch.zeros(2, 8))
    for node, names in zip(program.calls(), ("model", "model block", "model block@1"), strict=True):
        node.meta["nn_module_stack"] = {name: (name, "Module") for name in names.split()}
    device = replace(ONE, module=10.0)
    whole = work_of([program], ONE).seconds
    assert work_of([program], device).seconds == whole
    assert work_of([program], device, is_model=True).seconds == whole + 3 * 10.0
