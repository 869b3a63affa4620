"""NaN and inf are refused where they appear, and nothing of them is kept."""

from __future__ import annotations

import pytest
import torch

import fouriercache as fc
from tests.tiny import METHOD, TIMESTEPS, denoise, is_same, labels, noise, step_inputs, tiny_dit


@pytest.fixture(scope="module")
def expected(fast):
    """A trajectory of a fresh session, bit for bit what one with refused calls in between must give."""
    return denoise(fast.new_session())


def test_nan_in_the_input_is_refused_and_leaves_no_trace(fast, expected):
    session = fast.new_session()

    def poison(step):
        if step in (0, 1, 3):
            bad = noise()
            bad[0, 0, 0, 0] = torch.nan
            with pytest.raises(fc.TrajectoryError, match=rf"(?s)step {step} .*NaN or inf.*input holds NaN.*not cached"):
                session(**step_inputs(bad, TIMESTEPS[step], labels()))

    assert is_same(denoise(session, before_step=poison), expected)


def test_nan_in_the_timestep_is_refused(fast):
    with pytest.raises(fc.TrajectoryError, match=r"(?s)timestep is empty or not finite.*scheduler"):
        fast.new_session()(**step_inputs(noise(), torch.nan, labels()))


def test_nan_in_the_features_is_refused_and_leaves_no_trace():
    model = tiny_dit()
    fast = fc.optimize(model, METHOD, num_steps=len(TIMESTEPS))
    weight = model.transformer_blocks[0].ff.net[2].weight
    clean = denoise(fast.new_session())

    def poison(step):
        if step in (0, 4):
            saved = weight.clone()
            weight[0, 0] = torch.inf
            with pytest.raises(fc.TrajectoryError, match=rf"(?s)step {step} \(compute\).*NaN or inf.*input is finite"):
                fast(**step_inputs(noise(), TIMESTEPS[step], labels()))
            weight.copy_(saved)

    assert is_same(denoise(fast, before_step=poison), clean)


def test_nan_passes_when_asked_to():
    fast = fc.optimize(tiny_dit(), METHOD, check_finite=False)
    out = fast(**step_inputs(torch.full_like(noise(), torch.nan), 900, labels())).sample
    assert out.isnan().all()
