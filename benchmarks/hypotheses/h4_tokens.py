"""H4 and H6: spatial frequencies of tokens, or of the attention they receive, find the tokens worth recomputing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import fouriercache as fc
from fouriercache.tokens.scores import Score

from .finding import Finding, Table, judge
from .lab import Lab, Trial
from .pairs import Ratio, paired_ratio

INTERVAL = 5
RATIO = 0.2

CONTROLS: Mapping[str, Score] = {
    "random order": fc.RandomOrder(),
    "norm of the token": fc.TokenNorm(),
    "attention received": fc.AttentionReceived(),
}
CHANGE: Mapping[str, Score] = {"energy of the change": fc.BandEnergy("low", "change", edge=1.0)}
"""Of all frequencies, so that the transform changes nothing; it keeps as much as those of one band do."""
ENERGIES: Mapping[str, Score] = {
    f"{band}-frequency energy of the {'token' if of == 'tokens' else 'change'}": fc.BandEnergy(band, of)
    for band in ("low", "high")
    for of in ("tokens", "change")
}
MAPS: Mapping[str, Score] = {"low-pass share of the attention received": fc.LowPassShare()}


@dataclass(frozen=True)
class _Trials:
    """What recomputing nothing gives, and what each score does."""

    nothing: Trial
    by_score: Mapping[str, Trial]

    def size(self, name: str) -> float:
        """Bytes that are kept with a score."""
        return self.by_score[name].cache_bytes

    def against(self, name: str, control: str) -> Ratio:
        """The error with one score over that with another."""
        return paired_ratio(self.by_score[name].errors, self.by_score[control].errors)


def find_tokens(lab: Lab) -> Finding:
    """H4: energies of bands against random tokens, norms, attention, the whole change, and recomputing nothing."""
    trials = _measure(lab, {**CONTROLS, **CHANGE, **ENERGIES})
    name = min(ENERGIES, key=lambda score: trials.by_score[score].mean)
    controls = [score for score in (*CONTROLS, *CHANGE) if trials.size(score) <= trials.size(name)]
    control = min(controls, key=lambda score: trials.by_score[score].mean)
    ratio = trials.against(name, control)
    nothing = paired_ratio(trials.by_score[name].errors, trials.nothing.errors)
    return Finding(
        name="H4",
        claim="the 2-D Fourier transform finds the tokens worth recomputing",
        built="token score `BandEnergy(band, of, edge)` in `TopK`, as nodes of the graph",
        verdict=judge(ratio, is_default=False),
        decided_by=(
            f"The best spectral score, {name}, has {ratio} times the error of the best score without a transform "
            f"that keeps no more bytes ({control}); {nothing} times that of recomputing no token, which keeps "
            f"{trials.nothing.cache_bytes / trials.size(name):.2f} of its bytes."
        ),
        tables=[_table(trials)],
        notes=[
            "The change of a token is the difference to what entered the site when the token was computed last, which "
            "is kept for it. The energy of the whole change is the control of that of one band of it."
        ],
    )


def find_maps(lab: Lab) -> Finding:
    """H6: the low-pass share of a token's attention column against its sum."""
    trials = _measure(lab, {**CONTROLS, **MAPS})
    (name,) = MAPS
    ratio = trials.against(name, "attention received")
    return Finding(
        name="H6",
        claim="spectra of attention maps tell how errors spread",
        built="token score `LowPassShare(edge)`, computed on the attention map in the graph",
        verdict=judge(ratio, is_default=False),
        decided_by=(
            f"Tokens by the {name} have {ratio} times the error of the sum of the same attention (ToCa's score), and "
            f"{trials.against(name, 'random order')} times that of random tokens."
        ),
        tables=[_table(trials)],
    )


def _measure(lab: Lab, scores: Mapping[str, Score]) -> _Trials:
    base = fc.FORA(INTERVAL)
    by_score = {name: lab.measure(base.with_(tokens=fc.TopK(score, RATIO))) for name, score in scores.items()}
    return _Trials(lab.measure(base), by_score)


def _table(trials: _Trials) -> Table:
    rows = [("none is recomputed", trials.nothing.mean, None, None, trials.nothing.cache_bytes / 1024)]
    for name, trial in trials.by_score.items():
        random = None if name == "random order" else trials.against(name, "random order")
        to_nothing = paired_ratio(trial.errors, trials.nothing.errors)
        rows.append((name, trial.mean, to_nothing, random, trial.cache_bytes / 1024))  # type: ignore[arg-type]
    return Table(
        f"FORA with interval {INTERVAL} ({trials.nothing.computed:.0f} computed steps); at all others the MLPs are "
        f"computed for {RATIO:.0%} of the tokens, those with the highest score. Attention is reused whole.",
        ("tokens by", "error", "ratio to none", "ratio to random", "cache, KiB"),
        tuple(rows),
        {"error": ".4f", "ratio to none": ".3f", "ratio to random": ".3f", "cache, KiB": ".0f"},
    )
