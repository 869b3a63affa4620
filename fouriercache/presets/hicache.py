"""HiCache."""

from __future__ import annotations

from ..codecs import Codec, Dense
from ..methods import Method
from ..predictors import Hermite
from ..schedules import Interval, Schedule
from ..tokens import All, Tokens
from .cadence import check_cadence


def HiCache(
    interval: int = 5,
    order: int = 2,
    sigma: float = 0.5,
    *,
    warmup: int = 2,
    site: str = "branch",
    schedule: Schedule | None = None,
    codec: Codec | None = None,
    tokens: Tokens | None = None,
) -> Method:
    """HiCache (arXiv:2508.16984): TaylorSeer with scaled Hermite polynomials in the place of powers.

    Sites, schedule and differences are TaylorSeer's; `sigma` is published as 0.5 (0.3 for FLUX.1-schnell). `schedule`
    takes the place of the interval, so the two are not given together; `warmup` then only says from which step on
    differences are taken, see `Hermite`.
    """
    check_cadence(HiCache, interval, schedule)
    published = Interval(interval, warmup=warmup, anchor="first")
    return Method(
        name="HiCache",
        site=site,
        schedule=published if schedule is None else schedule,
        predictor=Hermite(order, sigma, first_difference=warmup - 1),
        codec=Dense() if codec is None else codec,
        tokens=All() if tokens is None else tokens,
    )
