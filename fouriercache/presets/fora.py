"""FORA."""

from __future__ import annotations

from ..codecs import Codec, Dense
from ..methods import Method
from ..predictors import Reuse
from ..schedules import Interval, Schedule
from ..tokens import All, Tokens
from .cadence import check_cadence


def FORA(
    interval: int = 3,
    *,
    site: str = "branch",
    schedule: Schedule | None = None,
    codec: Codec | None = None,
    tokens: Tokens | None = None,
) -> Method:
    """FORA (FORA, src/models.py): compute one step in `interval`, counted back from the last; reuse in between.

    `schedule` takes the place of the interval, so the two are not given together.
    """
    check_cadence(FORA, interval, schedule)
    published = Interval(interval, warmup=1, anchor="last")
    return Method(
        name="FORA",
        site=site,
        schedule=published if schedule is None else schedule,
        predictor=Reuse(),
        codec=Dense() if codec is None else codec,
        tokens=All() if tokens is None else tokens,
    )
