"""Tuned, the library's own method."""

from __future__ import annotations

from ..codecs import Codec, Dense
from ..methods import Method
from ..predictors import Newton
from ..schedules import Interval, Schedule
from ..tokens import All, Tokens
from .cadence import check_cadence


def Tuned(
    interval: int = 5,
    order: int = 2,
    *,
    site: str = "stack",
    schedule: Schedule | None = None,
    codec: Codec | None = None,
    tokens: Tokens | None = None,
) -> Method:
    """The library's own method: one residual for the whole stack, a polynomial through its last values, a step table.

    `schedule` is the table of computed steps that `fouriercache.calibrate` found for the model and its sampler:
    `Tuned(schedule=Table((0, 9, 16, ...)))`, or `optimize(..., calibration=...)`. Without one, one step in `interval`
    is computed, counted back from the last, which is the step that a prediction harms most. The steps of a table are
    uneven, so the polynomial stands on their true positions (`Newton`), which TaylorSeer's does not.
    """
    check_cadence(Tuned, interval, schedule)
    return Method(
        name="Tuned",
        site=site,
        schedule=Interval(interval, warmup=2, anchor="last") if schedule is None else schedule,
        predictor=Newton(order),
        codec=Dense() if codec is None else codec,
        tokens=All() if tokens is None else tokens,
    )
