"""ToCa."""

from __future__ import annotations

from ..codecs import Codec, Dense
from ..methods import Method
from ..predictors import Reuse
from ..schedules import Schedule, Tapered
from ..tokens import Age, AttentionReceived, SpatialBonus, ToCaRatio, Tokens, TopK, Total
from .cadence import check_cadence


def ToCa(
    interval: int = 3,
    ratio: float = 0.07,
    scheduler: str = "ToCa-ddim50",
    *,
    soft_weight: float = 0.25,
    bonus: float = 0.6,
    cell: int = 2,
    published: bool = False,
    site: str = "branch",
    schedule: Schedule | None = None,
    codec: Codec | None = None,
    tokens: Tokens | None = None,
) -> Method:
    """ToCa: compute one step in about `interval`; in between, compute the MLPs for the tokens that matter most.

    All as in DiT-ToCa/cache_functions: tokens are ranked by the attention they receive plus `soft_weight` times their
    age over the interval, the best of each `cell` x `cell` square with a bonus; their share is about `ratio` and
    depends on layer and step as `scheduler` says. The published DDPM-250 command has interval 4 and "ToCa-ddpm250".
    With `published=True` single steps compute the first block alone, as the authors' code does; see `Tapered`.

    `schedule` takes the place of the interval and `tokens` that of the published choice, `interval` then being what
    ages are counted in.
    """
    check_cadence(ToCa, interval, schedule)
    score = SpatialBonus(Total((AttentionReceived(), Age(soft_weight, interval))), bonus, cell)
    return Method(
        name="ToCa",
        site=site,
        schedule=Tapered(interval, published=published) if schedule is None else schedule,
        predictor=Reuse(),
        codec=Dense() if codec is None else codec,
        tokens=TopK(score, ToCaRatio(ratio, scheduler)) if tokens is None else tokens,
    )
