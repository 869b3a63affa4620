"""Spectrum."""

from __future__ import annotations

import inspect

from ..codecs import Codec, Dense
from ..errors import MethodError
from ..methods import Method
from ..predictors import Chebyshev
from ..schedules import Growing, Schedule
from ..tokens import All, Tokens


def Spectrum(
    num_steps: int = 50,
    alpha: float = 0.75,
    window: float = 2.0,
    *,
    warmup: int = 5,
    degree: int = 4,
    ridge: float = 0.1,
    weight: float = 1.0,
    history: int | None = None,
    site: str = "stack",
    schedule: Schedule | None = None,
    codec: Codec | None = None,
    tokens: Tokens | None = None,
) -> Method:
    """Spectrum (arXiv:2603.01623): of one cached stream, a Chebyshev regression over all computed steps.

    `num_steps` is the number of steps that optimize is told, too: time is measured in it. The first `warmup` steps are
    computed, then at gaps that begin with `window` and grow by `alpha` (Spectrum, src/pipelines/flux_forward.py, where
    they are window_size and flex_window). `degree`, `ridge` and `weight` are those of `Chebyshev`, published as m, lam
    and w. `history` is how many computed features are kept and fitted; None keeps all that the schedule computes, as
    published. `schedule` takes the place of `alpha`, `window` and `warmup`.

    Raises MethodError when a schedule is given beside one of the three, or does not list its steps and no `history` is
    given.
    """
    _check_gaps(schedule, alpha=alpha, window=window, warmup=warmup)
    chosen = Growing(alpha, window, warmup) if schedule is None else schedule
    return Method(
        name="Spectrum",
        site=site,
        schedule=chosen,
        predictor=Chebyshev(
            num_steps, degree, ridge, _count_computed(chosen, num_steps) if history is None else history, weight
        ),
        codec=Dense() if codec is None else codec,
        tokens=All() if tokens is None else tokens,
    )


def _check_gaps(schedule: Schedule | None, **given: float) -> None:
    parameters = inspect.signature(Spectrum).parameters
    changed = [f"{name}={value}" for name, value in given.items() if value != parameters[name].default]
    if schedule is not None and changed:
        raise MethodError(
            f"Spectrum got {', '.join(changed)} and a schedule, and only one can say which steps are computed.\n"
            f"  where: Spectrum({', '.join(changed)}, schedule={schedule!r})\n"
            f"  Leave out one of the two."
        )


def _count_computed(schedule: Schedule, num_steps: int) -> int:
    steps = schedule.steps(num_steps)
    if steps is None:
        raise MethodError(
            "Spectrum fits all computed steps, and the schedule does not list them beforehand.\n"
            f"  where: Spectrum(schedule={schedule!r})\n"
            "  Pass history=, the number of computed features to keep."
        )
    return len(steps)
