"""H8: the noise of the latents tells the filter, and which steps to compute."""

from __future__ import annotations

from dataclasses import dataclass

import fouriercache as fc
from fouriercache.indicators import Indicator
from fouriercache.predictors import Predictor

from .finding import Finding, Picture, Table, Verdict
from .h5_video import about_videos
from .h7_spectral_difference import COMPUTED, adaptive
from .lab import Lab, Trial, uniform
from .latent_spectra import LatentSpectra, fit_exponent, measure_spectra, radial_spectrum
from .pairs import Ratio, paired_ratio
from .subjects import VIDEO_MODEL, VIDEOS


@dataclass(frozen=True)
class _Use:
    """Something made of the measured spectra, its control, and the same with no spectrum at all.

    All compute as many steps. `control` and `plain` are one and the same where the control knows of no spectrum.
    """

    words: str
    control_words: str
    plain_words: str
    drives: str
    trial: Trial
    control: Trial
    plain: Trial

    @property
    def ratio(self) -> Ratio:
        """Its error over that of its control."""
        return paired_ratio(self.trial.errors, self.control.errors)

    @property
    def to_plain(self) -> Ratio:
        """Its error over that of the same with no spectrum."""
        return paired_ratio(self.trial.errors, self.plain.errors)

    @property
    def helps(self) -> bool:
        """Whether it is surely better than its control and than no spectrum."""
        return self.ratio.is_smaller and self.to_plain.is_smaller


@dataclass(frozen=True)
class _Study:
    """One model: what was measured of its latents, and the uses of that.

    Attributes:
        kind: "DDPM" or "flow". samples: "images" or "videos". fixed: exponent of the published filter for them.
    """

    kind: str
    samples: str
    fixed: float
    spectra: LatentSpectra
    uses: list[_Use]


def find(lab: Lab) -> Finding:
    """Measure spectra of samples and latents of a DDPM and of a flow model; use them for filter and computed steps."""
    videos = lab.beside(VIDEO_MODEL, VIDEOS)
    studies = [_study(lab, "DDPM", "images", 2.0), _study(videos, "flow", "videos", 3.0)]
    return Finding(
        name="H8",
        claim="the noise of the latents tells the filter, and which steps to compute",
        built="`Filtered(beta, noise)` with a measured exponent, `DDPM` and `Flow` noise levels; a step table even in "
        "the share of signal resolved",
        verdict=_verdict([use for study in studies for use in study.uses]),
        decided_by=" ".join(map(_said_of, studies)),
        tables=[table for study in studies for table in _tables(study)],
        pictures=[_picture(study) for study in studies],
        notes=[
            "A use helps if it is surely better than its control and than the same with no spectrum: the bare trigger, "
            "or even steps. The fixed filter is SeaCache's, with the exponent that it takes for images or for videos.",
            *(_note(study) for study in studies),
            _note_on_axes(videos, studies[1]),
            about_videos(videos),
        ],
    )


def _study(lab: Lab, kind: str, samples: str, fixed: float) -> _Study:
    """Every use on one model."""
    spectra = measure_spectra(lab)
    driven: tuple[tuple[str, Predictor], ...] = (("reuse", fc.Reuse()), ("Newton(2)", fc.Newton(2)))
    uses = [use for drives, predictor in driven for use in _uses(lab, spectra, fixed, drives, predictor)]
    return _Study(kind, samples, fixed, spectra, uses)


def _uses(lab: Lab, spectra: LatentSpectra, fixed: float, drives: str, predictor: Predictor) -> list[_Use]:
    """The filter and the step table, driving one predictor; every trigger computes as many steps as the tables."""
    beta = round(spectra.exponent, 3)

    def trigger(indicator: Indicator) -> Trial:
        return adaptive(lab, indicator, fc.Polynomial((1.0, 0.0)), predictor)

    def table(steps: tuple[int, ...]) -> Trial:
        return lab.measure(fc.Method("H8", "stack", fc.Table(steps), predictor))

    bare = trigger(fc.Modulated())
    published, own = (trigger(fc.Filtered(exponent, lab.subject.noise())) for exponent in (fixed, beta))
    even = table(uniform(lab.steps, COMPUTED))
    names = f"filter of measured exponent {beta}", f"filter of fixed exponent {fixed:g}", "no filter"
    uses = [_Use(*names, drives, own, published, bare)]
    for words, by_power in (("all bands alike", False), ("bands by their power", True)):
        steps = spectra.steps_by_signal(COMPUTED, by_power=by_power)
        names = f"steps even in resolved signal, {words}", "even steps", "even steps"
        uses.append(_Use(*names, drives, table(steps), even, even))
    return uses


def _verdict(uses: list[_Use]) -> Verdict:
    return "optional" if any(use.helps for use in uses) else "refuted"


def _said_of(study: _Study) -> str:
    """The verdict on one model, and what decided it."""
    uses = study.uses
    best = min(uses, key=lambda use: (not use.helps, use.ratio.mean))
    to_plain = "" if best.plain is best.control else f", and {best.to_plain} times that of {best.plain_words}"
    return (
        f"On the {study.kind} model ({study.samples}) {_verdict(uses)}: best use, {best.words} (driving "
        f"{best.drives}), has {best.ratio} times the error of {best.control_words}{to_plain}; "
        f"{sum(use.ratio.is_smaller for use in uses)} of {len(uses)} uses are surely better than their controls, "
        f"{sum(use.ratio.is_larger for use in uses)} surely worse, {sum(use.helps for use in uses)} surely better than "
        f"control and no spectrum. Power falls with the exponent {study.spectra.exponent:.2f}, where the fixed filter "
        f"takes {study.fixed:g}."
    )


def _tables(study: _Study) -> list[Table]:
    rows: dict[tuple[str, str], tuple[object, ...]] = {}
    for use in study.uses:
        to_plain = None if use.control is use.plain else paired_ratio(use.control.errors, use.plain.errors)
        trials = [
            (use.plain_words, use.plain, None, None),
            (use.control_words, use.control, None, to_plain),
            (use.words, use.trial, None if use.control is use.plain else use.ratio, use.to_plain),
        ]
        for words, trial, fixed, plain in trials:
            row = (words, use.drives, trial.computed, trial.mean, fixed, plain, trial.cache_bytes / 1024)
            rows.setdefault((words, use.drives), row)
    name = f"{study.kind[0].upper()}{study.kind[1:]} model ({study.samples})"
    uses = Table(
        f"{name}: at equal computed steps, stack sites. Ratios: to the fixed filter, and to the same with no spectrum, "
        "which for a filter is the bare trigger, for a step table even steps.",
        ("steps chosen by", "drives", "computed", "error", "to fixed", "to no spectrum", "cache, KiB"),
        tuple(rows.values()),
        {"computed": ".1f", "error": ".4f", "to fixed": ".3f", "to no spectrum": ".3f", "cache, KiB": ".0f"},
    )
    unit = "pixel" if study.samples == "images" else "pixel and frame, radial in three dimensions"
    signal = study.spectra.table(
        f"{name}: power S of the uncached calibration {study.samples} by frequency (cycles a {unit}; white noise of "
        "variance 1 has 1), and the share of it in the latent's power at some steps, `a^2 S / (a^2 S + b^2)`."
    )
    latents = study.spectra.table_over_model(
        f"{name}: measured power of the latents over `a^2 S + b^2`, S the power of the final {study.samples}."
    )
    return [uses, signal, latents]


def _picture(study: _Study) -> Picture:
    spectra = study.spectra
    return Picture(
        f"h8_latent_power_{study.kind.lower()}.png",
        f"Power of the latents by frequency, while they are denoised: {study.kind} model, {study.samples}",
        "cycles a pixel" if study.samples == "images" else "cycles a pixel and frame",
        "power (white noise: 1)",
        tuple((f"after step {step}", spectra.frequencies, spectra.latents[step]) for step in spectra.shown),
        is_logarithmic=True,
    )


def _note(study: _Study) -> str:
    """How well `a^2 S + b^2` describes the latents of this model."""
    form = {"DDPM": "a^2 + b^2 = 1", "flow": "a + b = 1, b the noise level of the step"}[study.kind]
    return (
        f"Latents of the {study.kind} model are `a sample + b noise` with {form}. `a^2 S + b^2` with the final "
        f"{study.samples}' power S is off from the latents' measured power by at most "
        f"{study.spectra.largest_error:.0%} in any band after the steps shown."
    )


def _note_on_axes(lab: Lab, study: _Study) -> str:
    """The exponent of space alone and of time alone, which one exponent for three dimensions cannot tell apart."""
    videos = lab.uncached(lab.subject.calibration)
    n, channels, frames, height, width = videos.shape
    space = radial_spectrum(videos.transpose(1, 2).reshape(n * frames, channels, height, width))
    time = radial_spectrum(videos.movedim(2, -1).reshape(n, channels * height * width, frames))
    return (
        f"The exponent of the videos, {study.spectra.exponent:.2f}, is of frequencies in space and time together; "
        f"within frames alone it is {fit_exponent(*space):.2f}, along time alone {fit_exponent(*time):.2f}. The filter "
        "takes one for all axes."
    )
