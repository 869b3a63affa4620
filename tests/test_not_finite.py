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
    with pytest.raises(fc.TrajectoryError, match=r"(?s)timestep is not finite.*scheduler"):
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


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (2, 3, 0, 8)], ids=["no samples", "no tokens"])
@pytest.mark.parametrize("when", ["first call", "new trajectory", "mid-trajectory"])
def test_an_empty_sample_is_refused_by_its_name_and_leaves_no_trace(fast, expected, shape, when):
    session = fc.optimize(fast.model, METHOD, num_steps=len(TIMESTEPS)) if when == "first call" else fast.new_session()

    def empty(step):
        if step == 3 or when == "new trajectory":
            bad = torch.zeros(shape)
            with pytest.raises(fc.TrajectoryError, match=r"(?s)hidden_states is empty.*where: hidden_states.*0.*slice"):
                session(**step_inputs(bad, TIMESTEPS[0] if when == "new trajectory" else 600, labels(len(bad))))

    if when == "first call":
        empty(3)
    assert is_same(denoise(session, before_step=empty if when == "mid-trajectory" else lambda _: None), expected)
    if when == "new trajectory":
        empty(0)
