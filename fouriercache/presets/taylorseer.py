"""TaylorSeer."""

from __future__ import annotations

from ..codecs import Codec, Dense
from ..methods import Method
from ..predictors import Taylor
from ..schedules import Interval, Schedule
from ..tokens import All, Tokens
from .cadence import check_cadence


def TaylorSeer(
    interval: int = 5,
    order: int = 2,
    *,
    warmup: int = 2,
    site: str = "branch",
    schedule: Schedule | None = None,
    codec: Codec | None = None,
    tokens: Tokens | None = None,
) -> Method:
    """TaylorSeer: compute the first `warmup` steps, then one in `interval`; extrapolate by a Taylor series in between.

    The schedule is that of TaylorSeer-DiT, cache_functions/cal_type.py, the series that of taylor_utils/__init__.py.
    `warmup` is published as first_enhance: 2 for DiT, 3 for FLUX, 1 for HunyuanVideo and HiDream. The published DiT
    command has interval 4 and order 4. `schedule` takes the place of the interval, so the two are not given together;
    `warmup` then only says from which step on differences are taken, see `Taylor`.
    """
    check_cadence(TaylorSeer, interval, schedule)
    published = Interval(interval, warmup=warmup, anchor="first")
    return Method(
        name="TaylorSeer",
        site=site,
        schedule=published if schedule is None else schedule,
        predictor=Taylor(order, first_difference=warmup - 1),
        codec=Dense() if codec is None else codec,
        tokens=All() if tokens is None else tokens,
    )
