"""What experiments share and calibration makes: step tables, fitted scalars, a polynomial."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

import fouriercache as fc
from fouriercache.calibration.bench import scalars_of
from fouriercache.calibration.fit import fit_scalars, form_of
from fouriercache.calibration.loop import Loop
from fouriercache.calibration.refine import refine
from fouriercache.models import demo

from .lab import Lab, package_commit

EDGES = (0.1, 0.3, 0.6)
"""Borders of four bands, as shares of the largest radial frequency."""


def calibrated_table(computed: int, steps: int) -> tuple[int, ...]:
    """The step table that the demo model comes with; of a shorter trajectory, the same in small."""
    table = demo.load_demo_calibration(computed).steps
    if steps == 50:
        return table
    return tuple(sorted({round(step * (steps - 1) / 49) for step in table}))


def calibrated_polynomial(lab: Lab) -> fc.Polynomial:
    """TeaCache's polynomial, fitted to this model and sampler. Outside the fitted range it takes the nearest end."""
    path = lab.folder / f"polynomial {lab.steps}.safetensors"
    if not path.is_file():
        lab.begin("  calibrated polynomial")
        found = fc.calibrate(lab.model, fc.TeaCache(), sample=lab.calibration_set, num_steps=lab.steps, progress=False)
        found.save(path)
    polynomial = fc.Calibration.load(path).polynomial
    assert polynomial is not None
    return replace(polynomial, outside="clamp")


def fitted_scalars(
    lab: Lab,
    site: str,
    steps: tuple[int, ...],
    edges: tuple[float, ...],
    *,
    keep_energy: bool = False,
    codec: fc.LowPass | None = None,
) -> fc.Calibrated:
    """Scalars for every predicted step, fitted to features of the calibration images along the cached trajectory.

    They start from, and lean on, the polynomial of degree 2. Bands are those of the codec's basis.
    """
    base = fc.Method("fit", site, fc.Table(steps), fc.Newton(2), codec=codec or fc.Dense())
    energy = (" energy" if keep_energy else "") + (f" {codec.basis}" if codec is not None else "")
    key = f"scalars{energy} {site} {len(edges) + 1} {lab.steps} {'-'.join(map(str, steps))}.json"
    path = lab.folder / key
    if not path.is_file():
        lab.begin(f"  fit of {len(edges) + 1} bands, {site}")
        fit = fc.Fit(edges=edges, keep_energy=keep_energy)
        loop = Loop(lab.model, form_of(base, fit), lab.calibration_set, lab.steps, {})
        scalars = fit_scalars(lab.model, base, loop, steps, fit)
        write_whole(path, json.dumps({"rows": scalars.rows, "commit": package_commit()}))
    rows = json.loads(path.read_text())["rows"]
    return fc.Calibrated(steps, _tuples(rows), edges)


def refined_scalars(lab: Lab, steps: tuple[int, ...], weights: tuple[float, ...]) -> fc.Calibrated:
    """Scalars of `Tuned` at these steps, refined once against final images at these guidance weights."""
    named = " ".join(f"{weight:g}" for weight in weights)
    path = lab.folder / f"refined {named} {lab.steps} {'-'.join(map(str, steps))}.json"
    if not path.is_file():
        lab.begin(f"  refined scalars, guidance {named}")
        samples = [partial(lab.calibration_set, guidance=weight) for weight in weights]
        reference = torch.cat([lab.uncached(replace(lab.subject.calibration, guidance=weight)) for weight in weights])
        own = fc.Tuned()
        loop = Loop(lab.model, own, lambda denoiser: torch.cat([sample(denoiser) for sample in samples]), lab.steps, {})
        found = refine(loop, steps, scalars_of(own, steps, lab.steps), reference, rounds=1)
        write_whole(path, json.dumps({"rows": found.rows, "commit": package_commit()}))
    return fc.Calibrated(steps, _tuples(json.loads(path.read_text())["rows"]))


def shipped_scalars(lab: Lab, computed: int) -> fc.Calibrated | None:
    """The scalars that the demo model's calibration has for so few computed steps; None where its table is enough."""
    shipped = demo.load_demo_calibration(computed).scalars
    if shipped is None or lab.steps == 50:
        return shipped
    return refined_scalars(lab, calibrated_table(computed, lab.steps), demo.CALIBRATED_GUIDANCE)


def shipped_method(lab: Lab, computed: int) -> fc.Method:
    """`Tuned` with the calibration that the demo model comes with."""
    own, scalars = fc.Tuned(schedule=fc.Table(calibrated_table(computed, lab.steps))), shipped_scalars(lab, computed)
    return own if scalars is None else own.with_(predictor=scalars)


def analyzed(lab: Lab, site: str) -> fc.Analysis:
    """Spectra of every site of a kind, on the calibration images."""
    path = lab.folder / f"spectra {site} {lab.steps}.json"
    if not path.is_file():
        lab.begin(f"  spectra, {site}")
        found = fc.analyze(
            lab.model, num_steps=lab.steps, site=site, sample=lab.calibration_set, edges=EDGES, progress=False
        )
        write_whole(path, json.dumps(found.as_dict()))
    known = {key: _tuples(value) for key, value in json.loads(path.read_text()).items()}
    sites = tuple(fc.SiteSpectrum(**{key: _tuples(value) for key, value in site.items()}) for site in known["sites"])
    return fc.Analysis(**{**known, "sites": sites})


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
