"""H8: a noise characterisation of the latents tells the filter, and which steps to compute."""

from __future__ import annotations

import json
import math

import torch
from torch import Tensor

import fouriercache as fc
from fouriercache.models import demo

from .finding import Finding, Picture, Table, judge
from .h7_spectral_difference import COMPUTED, adaptive
from .ingredients import noise_of_demo, write_whole
from .lab import Lab, uniform
from .pairs import paired_ratio
from .subjects import CALIBRATION

_SHOWN = (0, 10, 20, 30, 40, 48)


def find(lab: Lab) -> Finding:
    """Measure the spectra of images and latents, fit the exponent, use it for the filter and for choosing steps."""
    frequencies, power = image_spectrum(lab.uncached(CALIBRATION))
    beta = round(fit_exponent(frequencies, power), 3)
    measured = latent_spectra(lab)
    rows, duels = [], []
    signal_steps = fc.Table(steps_by_signal(power, lab.steps, COMPUTED))
    for words, predictor in (("reuse", fc.Reuse()), ("Newton(2)", fc.Newton(2))):
        trials = {}
        for name, exponent in (("filter of fixed exponent 2", 2.0), (f"filter of measured exponent {beta}", beta)):
            indicator = fc.Filtered(exponent, noise_of_demo())
            trials[name] = adaptive(lab, indicator, fc.Polynomial((1.0, 0.0)), predictor)
        for name, table in (
            ("even steps", fc.Table(uniform(lab.steps, COMPUTED))),
            ("steps even in resolved signal", signal_steps),
        ):
            trials[name] = lab.measure(fc.Method("H8", "stack", table, predictor))
        names = list(trials)
        for control, name in ((names[0], names[1]), (names[2], names[3])):
            ratio = paired_ratio(trials[name].errors, trials[control].errors)
            duels.append((ratio, name, control, words))
            rows += [
                (control, words, trials[control].computed, trials[control].mean, None),
                (name, words, trials[name].computed, trials[name].mean, ratio),
            ]
    best, name, control, words = min(duels, key=lambda duel: duel[0].mean)
    off = max(abs(value - 1) for row in _over_model(measured, power, lab.steps) for value in row)
    return Finding(
        name="H8",
        claim="the noise of the latents tells the filter, and which steps to compute",
        built="`Filtered(beta, noise)` with a measured exponent; a step table even in the share of signal resolved",
        verdict=judge(best, is_default=False),
        decided_by=(
            f"Best use: {name} has {best} times the error of {control} (driving {words}); "
            f"{sum(ratio.is_larger for ratio, *_ in duels)} of {len(duels)} uses are surely worse than their controls. "
            f"Images have the exponent {beta:.2f}, where the fixed filter takes 2. Open for flow models: none is "
            "shipped."
        ),
        tables=[
            Table(
                "At equal computed steps, stack sites. Ratio: to the row above.",
                ("steps chosen by", "drives", "computed", "error", "ratio"),
                tuple(rows),
                {"computed": ".1f", "error": ".4f", "ratio": ".3f"},
            ),
            _spectrum_table(frequencies, power, lab.steps),
            _latent_table(frequencies, measured, power, lab.steps),
        ],
        pictures=[
            Picture(
                "h8_latent_power.png",
                "Power of the latents by frequency, while they are denoised",
                "cycles a pixel",
                "power (white noise: 1)",
                tuple((f"after step {step}", frequencies, measured[step]) for step in _SHOWN if step < lab.steps),
                is_logarithmic=True,
            )
        ],
        notes=[
            "The shipped model is of DDPM type: a latent is `a image + b noise` with a^2 + b^2 = 1. At a step, "
            f"`a^2 S + b^2` with the final images' power S is off from the latents' measured power by at most "
            f"{off:.0%} in any band and step shown: what the model has not settled yet is missing from S. `Flow()` "
            "has the levels of flow models; its use is open until it is measured on one."
        ],
    )


def latent_spectra(lab: Lab) -> list[list[float]]:
    """Power of the uncached latents after each step, by the bands of `image_spectrum`."""
    path = lab.folder / f"latents {lab.steps}.json"
    if not path.is_file():
        lab.begin("  spectra of the latents")
        found: list[list[float]] = []
        ((labels, noise),) = CALIBRATION.batches()
        demo.sample(
            lab.model,
            demo.load_demo_scheduler(),
            labels,
            noise,
            num_steps=lab.steps,
            guidance=CALIBRATION.guidance,
            on_step=lambda _, images: found.append(image_spectrum(images)[1]),
        )
        write_whole(path, json.dumps(found))
    known: list[list[float]] = json.loads(path.read_text())
    return known


def image_spectrum(images: Tensor) -> tuple[list[float], list[float]]:
    """Mean power of each band of radial frequencies, of images float32 [n, 3, h, w]; white noise of variance 1 has 1.

    Returns:
        Mean frequency of each band, in cycles a pixel, and its power; the constant part is left out.
    """
    size = images.shape[-1]
    power = torch.fft.fft2(images.double(), norm="ortho").abs().square().mean((0, 1))
    axis = torch.fft.fftfreq(size, dtype=torch.float64)
    radius = (axis[:, None].square() + axis.square()).sqrt()
    bands = [(radius >= k / size - 0.5 / size) & (radius < k / size + 0.5 / size) for k in range(1, size // 2 + 1)]
    return [float(radius[band].mean()) for band in bands], [float(power[band].mean()) for band in bands]


def fit_exponent(frequencies: list[float], power: list[float]) -> float:
    """Least squares of `log power = c - beta log frequency`; returns beta."""
    x = torch.tensor([math.log(f) for f in frequencies], dtype=torch.float64)
    y = torch.tensor([math.log(p) for p in power], dtype=torch.float64)
    return -float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


def signal_levels(steps: int) -> list[float]:
    """alpha_bar of the latents that enter each step."""
    scheduler = demo.load_demo_scheduler()
    scheduler.set_timesteps(steps)
    return [float(scheduler.alphas_cumprod[timestep]) for timestep in scheduler.timesteps.tolist()]


def signal_shares(power: list[float], steps: int) -> list[list[float]]:
    """At each step, the share of signal in each band of the latent: `a^2 S / (a^2 S + b^2)`, a^2 = 1 - b^2 = alpha_bar.

    The Wiener filter's response (SeaCache, arXiv 2602.18993), with the measured power S.
    """
    return [[alpha * s / (alpha * s + 1 - alpha) for s in power] for alpha in signal_levels(steps)]


def steps_by_signal(power: list[float], steps: int, computed: int) -> tuple[int, ...]:
    """`computed` of `steps` steps, the first and the last among them, between which equal amounts of signal come up."""
    resolved = [sum(shares) / len(shares) for shares in signal_shares(power, steps)]
    first, last = resolved[0], resolved[-1]
    found = [0]
    for k in range(1, computed):
        wanted = first + (last - first) * k / (computed - 1)
        near = min(range(steps), key=lambda step: abs(resolved[step] - wanted))
        found.append(min(max(near, found[-1] + 1), steps - computed + k))
    return tuple(found)


def _over_model(measured: list[list[float]], power: list[float], steps: int) -> list[list[float]]:
    """Measured power of the latents over `alpha_bar S + 1 - alpha_bar`, at the steps shown but the last."""
    alphas = signal_levels(steps)
    return [
        [found / (alphas[step + 1] * s + 1 - alphas[step + 1]) for found, s in zip(measured[step], power, strict=True)]
        for step in _SHOWN
        if step + 1 < steps
    ]


def _picks(power: list[float]) -> range:
    return range(0, len(power), max(1, len(power) // 6))


def _spectrum_table(frequencies: list[float], power: list[float], steps: int) -> Table:
    shares = signal_shares(power, steps)
    shown = [step for step in _SHOWN if step < steps]
    headings = tuple(f"step {step}" for step in shown)
    rows = tuple((frequencies[k], power[k], *(shares[step][k] for step in shown)) for k in _picks(power))
    return Table(
        "Power of the uncached calibration images by frequency (cycles a pixel; white noise of variance 1 has 1), and "
        "the share of it in the latent's power at some steps.",
        ("frequency", "power", *headings),
        rows,
        {"frequency": ".3f", "power": ".3f"} | dict.fromkeys(headings, ".2f"),
    )


def _latent_table(frequencies: list[float], measured: list[list[float]], power: list[float], steps: int) -> Table:
    over = _over_model(measured, power, steps)
    headings = tuple(f"after step {step}" for step in _SHOWN if step + 1 < steps)
    return Table(
        "Measured power of the latents over the model `a^2 S + b^2`, S the power of the final images.",
        ("frequency", *headings),
        tuple((frequencies[k], *(row[k] for row in over)) for k in _picks(power)),
        {"frequency": ".3f"} | dict.fromkeys(headings, ".2f"),
    )
