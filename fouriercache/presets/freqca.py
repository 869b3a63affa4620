"""FreqCa."""

from __future__ import annotations

from ..codecs import Codec, Dense
from ..methods import Method
from ..predictors import Banded, Hermite, Reuse
from ..schedules import Interval, Schedule
from ..tokens import All, Tokens
from .cadence import check_cadence


def FreqCa(
    interval: int = 6,
    order: int = 2,
    sigma: float = 0.71,
    *,
    edge: float = 0.1,
    warmup: int = 3,
    site: str = "stack",
    schedule: Schedule | None = None,
    codec: Codec | None = None,
    tokens: Tokens | None = None,
) -> Method:
    """FreqCa (arXiv:2510.08669): of one cached stream, reuse the low spatial band and extrapolate the high one.

    The low band is every 2-D DCT coefficient of the token grid with a radius up to `edge` of the largest; the high one
    follows Hermite polynomials of `order` and `sigma` (FreqCa, flux/src/flux/modules/cache_functions/cache_utils.py).
    The first `warmup` steps are computed (published as first_enhance), then one in `interval`; 6 and 9 are published.
    `schedule` takes the place of the interval, so the two are not given together; `warmup` then only says from which
    step on differences are taken, see `Hermite`.
    """
    check_cadence(FreqCa, interval, schedule)
    published = Interval(interval, warmup=warmup, anchor="first")
    return Method(
        name="FreqCa",
        site=site,
        schedule=published if schedule is None else schedule,
        predictor=Banded((edge,), (Reuse(), Hermite(order, sigma, first_difference=warmup - 1))),
        codec=Dense() if codec is None else codec,
        tokens=All() if tokens is None else tokens,
    )
