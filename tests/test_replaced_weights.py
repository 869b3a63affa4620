"""Weights that the model replaced by others are free: nothing that was captured holds them."""

from __future__ import annotations

import gc
from typing import Any
from weakref import ref

import pytest
import torch
from torch import nn

import fouriercache as fc
from tests.tiny import METHOD, ROUNDING, TIMESTEPS, BruteForce, denoise, distance, is_same, labels, noise, tiny_dit


def replace_all(model: nn.Module) -> dict[str, ref[Any]]:
    """Load other weights in place of all there are; return references to the old ones that do not hold them."""
    old = {name: ref(weight) for name, weight in model.named_parameters()}
    model.load_state_dict({name: value * 1.5 for name, value in model.state_dict().items()}, assign=True)
    return old


def alive(weights: dict[str, ref[Any]]) -> list[str]:
    gc.collect()
    return [name for name, weight in weights.items() if weight() is not None]


@pytest.mark.parametrize("method", [METHOD, fc.TeaCache(threshold=0.1), fc.ToCa(interval=2)], ids=lambda m: m.name)
def test_replaced_weights_are_free_after_a_trajectory(method):
    model = tiny_dit()
    fast = fc.optimize(model, method, num_steps=len(TIMESTEPS))
    denoise(fast)
    old = replace_all(model)
    denoise(fast)
    assert alive(old) == []


def test_captures_that_are_not_in_use_hold_no_replaced_weights():
    """Those of another form of call, and a program that an owner took."""
    model = tiny_dit()
    fast = fc.optimize(model, METHOD, num_steps=len(TIMESTEPS))
    denoise(fast)
    small = fast.program("reuse")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        denoise(fast)
        old = replace_all(model)
        denoise(fast)
    assert alive(old) == []
    assert small.text()
    assert distance(denoise(fast), denoise(BruteForce(model))) < ROUNDING


def test_a_request_that_waits_holds_nothing_of_a_capture_that_was_dropped():
    model = tiny_dit()
    fast = fc.optimize(model, METHOD, num_steps=len(TIMESTEPS))
    waiting = fast.new_session()
    denoise(waiting, timesteps=TIMESTEPS[:3])
    programs = [ref(stepper) for stepper in fast._steppers]
    fast.recapture()
    gc.collect()
    assert [program() for program in programs] == [None]
    assert torch.isfinite(denoise(waiting, timesteps=TIMESTEPS[3:])[-1]).all()


def test_a_program_runs_with_the_weights_that_the_model_has_now():
    model = tiny_dit()
    fast = fc.optimize(model, METHOD, num_steps=len(TIMESTEPS))
    denoise(fast)
    program, given = fast.program("compute"), (noise(), torch.full((2,), 900.0), labels())
    replace_all(model)
    assert is_same([program.module()(*given)[0]], [model(*given).sample])
