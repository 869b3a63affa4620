"""Passes take time in proportion to the graph: counted in calls, as clocks of a busy machine prove nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from fouriercache.passes.insert_cache import InsertCache
from fouriercache.passes.insert_gate import InsertGate
from fouriercache.passes.insert_predictor import InsertPredictor
from fouriercache.program import Program
from tests.passes.stages import after, toy


def cached(depth: int) -> Program:
    program = toy(lambda block, x: x + block.down(block.up(x)), depth=depth)
    return after(program, InsertCache("branch", 1), InsertPredictor())


def calls_of(work: Callable[[], Any]) -> int:
    """How many functions `work` calls, and methods of objects written in C."""
    count = 0

    def see(frame: object, event: str, _: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(see)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_each_block_more_costs_its_gates_as_much_as_the_one_before():
    calls_of(partial(InsertGate().rewrite, cached(1)))  # with what torch does once in a process
    few, some, many = (calls_of(partial(InsertGate().rewrite, cached(depth))) for depth in (3, 8, 18))
    assert many - some < 2.2 * (some - few)
