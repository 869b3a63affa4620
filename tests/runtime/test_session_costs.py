"""What a session costs: functions called, memory held, modules imported."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

from fouriercache.predictors import Taylor
from fouriercache.runtime.call import StepCall
from fouriercache.runtime.session import Session
from fouriercache.schedules import Interval
from tests.runtime.test_session import TIMESTEPS, model_of, run


def test_a_long_lived_session_does_not_grow() -> None:
    model = model_of(Interval(5, 2), Taylor(2), num_steps=50)
    sizes = []
    tracemalloc.start()
    try:
        for number in range(60):
            run(model, TIMESTEPS if number % 3 else TIMESTEPS[: number % 50 or 1], "cond", "uncond")
            if number % 20 == 19:
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sizes[2] < sizes[1] + 4096  # bytes: less than one kept plan for each of the 20 trajectories


def test_an_ordinary_call_takes_few_functions() -> None:
    """Counted: a timed test would measure what else the machine does."""
    session = Session(Interval(5, 2), Taylor(2), num_steps=50)
    calls = [StepCall((timestep, timestep), None, ("f32", (2, 4)), bool, bool, bool) for timestep in TIMESTEPS]
    called = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal called
        called += event in ("call", "c_call")

    for number in range(2):  # what the first trajectory learns of the schedule is kept
        sys.setprofile(count if number else None)
        try:
            for call in calls:
                session.commit(session.plan(call))
        finally:
            sys.setprofile(None)
    assert 0 < called / len(calls) < 150


def test_the_session_needs_no_torch() -> None:
    code = (
        "import sys, types, importlib\n"
        "package = types.ModuleType('fouriercache'); package.__path__ = ['fouriercache']\n"
        "runtime = types.ModuleType('fouriercache.runtime'); runtime.__path__ = ['fouriercache/runtime']\n"
        "sys.modules.update({'fouriercache': package, 'fouriercache.runtime': runtime})\n"
        "importlib.import_module('fouriercache.runtime.session')\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
