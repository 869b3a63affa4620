"""Made-up histories of features for tests of predictors that are fitted to them, and their inner products."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fouriercache.predictors import Prony

Features: TypeAlias = npt.NDArray[np.float64]
Curve: TypeAlias = Callable[[float], Features]

WIDTH = 40


def as_features(values: object) -> Features:
    return np.asarray(values, dtype=np.float64)


def gram_of(history: Features) -> tuple[tuple[float, ...], ...]:
    """[features, WIDTH], newest first -> the inner products."""
    return tuple(map(tuple, (history @ history.T).tolist()))


def history_of(curve: Curve, computed: tuple[int, ...]) -> Features:
    return np.array([curve(step) for step in reversed(computed)])


def row_of(prony: Prony, history: Features, computed: tuple[int, ...], step: int) -> tuple[float, ...]:
    ((row,),) = prony.table(computed, step, (gram_of(history[: prony.history]),))
    return row


def directions(seed: int, count: int) -> Features:
    """[count, WIDTH], orthonormal: how much of a curve is in each of its exponentials is then seen best."""
    found, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(WIDTH, count)))
    return as_features(found.T)
