"""H8's own parts: power by frequency, signal and noise at each step, and when knowing them is said to help."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypotheses import h8_noise
from hypotheses.lab import Trial
from hypotheses.latent_spectra import LatentSpectra, fit_exponent, radial_spectrum
from hypotheses.subjects import IMAGE_MODEL, VIDEO_MODEL


def trial(error: float) -> Trial:
    return Trial(tuple(error * (1 + 0.01 * k) for k in range(6)), 10, 1, Path("none"))


@pytest.mark.parametrize("shape", [(64, 3, 32, 32), (128, 3, 8, 24, 24)])
def test_white_noise_has_power_1_at_every_frequency_and_no_exponent(shape: tuple[int, ...]):
    frequencies, power = radial_spectrum(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    assert frequencies == sorted(frequencies)
    assert frequencies[-1] < 0.5 + 0.5 / shape[-1]
    assert power == pytest.approx([1.0] * len(power), abs=0.05)
    assert fit_exponent(frequencies, power) == pytest.approx(0, abs=0.02)
    assert fit_exponent(frequencies, [3 * f**-1.7 for f in frequencies]) == pytest.approx(1.7)


def test_a_wave_in_time_has_its_power_where_its_frequency_is():
    wave = torch.cos(torch.arange(8) * 2 * math.pi / 4).reshape(1, 1, 8, 1, 1).expand(1, 1, 8, 24, 24)
    frequencies, power = radial_spectrum(wave)
    loudest = max(range(len(power)), key=power.__getitem__)
    assert abs(frequencies[loudest] - 0.25) < 0.5 / 24  # a period of four frames
    assert sum(power) == pytest.approx(power[loudest])


def test_spectra_tell_signal_from_noise():
    levels = [(0.0, 1.0), (0.5, 0.5), (0.8, 0.6), (0.9, 0.1)]
    power = [4.0, 1.0]
    latents = [[a * a * s + b * b for s in power] for a, b in levels[1:]] + [power]
    latents[1][0] *= 1.25  # after step 1, and tables show step 0 and every tenth
    spectra = LatentSpectra([0.1, 0.2], power, latents, levels)
    assert spectra.exponent == pytest.approx(2)
    assert spectra.shares[0] == [0, 0]
    assert spectra.shares[2] == pytest.approx([2.56 / 2.92, 0.64])
    assert spectra.over_model(1) == pytest.approx([1.25, 1])
    assert spectra.shown == [0]
    assert spectra.largest_error == pytest.approx(0)


def test_levels_of_the_shipped_models_go_from_noise_to_signal():
    for subject in (IMAGE_MODEL, VIDEO_MODEL):
        levels = subject.levels(50)
        assert [a for a, _ in levels] == sorted(a for a, _ in levels)
        assert levels[0][1] > 0.99
        assert levels[-1][0] > 0.98
    assert all(a + b == pytest.approx(1) for a, b in VIDEO_MODEL.levels(50))
    assert all(a * a + b * b == pytest.approx(1) for a, b in IMAGE_MODEL.levels(50))


def test_steps_by_signal_are_as_many_as_asked_for_and_rise():
    spectra = LatentSpectra([], [4.0, 1.0, 0.1, 0.01], [], VIDEO_MODEL.levels(50))
    for computed in (2, 7, 10, 49):
        steps = spectra.steps_by_signal(computed)
        assert len(set(steps)) == computed
        assert list(steps) == sorted(steps)
        assert (steps[0], steps[-1]) == (0, 49)
    for by_power, weights in ((False, [1.0] * 4), (True, spectra.power)):
        steps = spectra.steps_by_signal(5, by_power=by_power)
        resolved = [sum(w * s for w, s in zip(weights, spectra.shares[step], strict=True)) for step in steps]
        gaps = [after - before for before, after in pairwise(resolved)]
        assert max(gaps) - min(gaps) < 0.1 * sum(gaps)


@pytest.mark.parametrize(
    ("images", "videos", "bare", "verdict"),
    [(0.5, 0.5, 2.0, "optional"), (1.2, 0.5, 2.0, "optional"), (0.5, 0.5, 0.1, "refuted"), (1.2, 1.2, 2.0, "refuted")],
)
def test_a_filter_helps_if_it_beats_the_fixed_one_and_no_filter(
    monkeypatch: pytest.MonkeyPatch, images: float, videos: float, bare: float, verdict: str
):
    def adaptive(lab: Any, indicator: Any, *_: object) -> Trial:
        exponent = getattr(indicator, "beta", None)
        return trial(bare if exponent is None else 1.0 if exponent == lab.fixed else lab.error)

    def lab_of(fixed: float, error: float) -> Any:
        noise = SimpleNamespace(noise=VIDEO_MODEL.noise, calibration=None)
        clip = torch.randn(1, 3, 4, 6, 6, generator=torch.Generator().manual_seed(0))
        return SimpleNamespace(
            steps=50, subject=noise, fixed=fixed, error=error, measure=lambda _: trial(1.0), uncached=lambda _: clip
        )

    lab = lab_of(2.0, images)
    lab.beside = lambda *_: lab_of(3.0, videos)
    spectra = LatentSpectra([0.1, 0.2], [5.0, 1.0], [[5.0, 1.0]] * 50, VIDEO_MODEL.levels(50))
    monkeypatch.setattr(h8_noise, "measure_spectra", lambda _: spectra)
    monkeypatch.setattr(h8_noise, "adaptive", adaptive)
    monkeypatch.setattr(h8_noise, "about_videos", lambda _: "")
    finding = h8_noise.find(lab)
    assert finding.verdict == verdict
    for kind, error in (("DDPM model (images)", images), ("flow model (videos)", videos)):
        word = "optional" if error < min(1, bare) else "refuted"
        assert f"On the {kind} {word}: " in finding.decided_by
        assert f"{kind[0].upper()}{kind[1:]}: at equal computed steps" in finding.markdown()
    assert len({picture.file for picture in finding.pictures}) == 2
