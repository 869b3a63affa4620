"""A whole 50-step loop of every preset in ONNX Runtime equals eager, a graph for each mode and single graph alike."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import fouriercache as fc
from fouriercache.presets import PRESETS
from tests.tiny import denoise, distance, labels, noise, step_inputs, tiny_dit

pytestmark = [pytest.mark.ort, pytest.mark.slow]
TIMESTEPS = tuple(range(980, -1, -20))
FORMS = ("TaylorSeer", "FreqCa", "TeaCache", "ToCa")
"""One preset for each kind of graph: plain predictions, bands, steps that are decided, chosen tokens."""
TUNED: dict[str, Callable[[], fc.Method]] = {
    "TeaCache": lambda: fc.TeaCache(0.1),  # its polynomials belong to published models
    "ToCa": lambda: fc.ToCa(published=True),  # has steps at which single sites are computed
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FORMS else pytest.mark.exhaustive) for name in PRESETS]
)
def test_a_whole_loop_in_onnx_runtime_equals_eager(name, tmp_path):
    method = TUNED.get(name, PRESETS[name])()
    call = step_inputs(noise(), 900, labels())
    fast = fc.optimize(tiny_dit(layers=1), method, num_steps=50, example_inputs=call)
    want = denoise(fast, timesteps=TIMESTEPS)
    computed = fast.session.computed_steps
    assert 4 < len(computed[0]) < 46, "both kinds of steps occur"
    form = fc.export(fast, tmp_path / "bundle").forms[0]
    assert (form.single is None) == (name == "ToCa")
    for single in (False, True) if form.single else (False,):
        bundled = fc.load(tmp_path / "bundle", threads=1, single_graph=single)
        assert distance(denoise(bundled, timesteps=TIMESTEPS), want) < 1e-4
        assert bundled.session.computed_steps == computed
