"""SeaCache."""

from __future__ import annotations

from ..codecs import Codec, Dense
from ..indicators import Filtered, Flow, Noise
from ..methods import Method
from ..predictors import Predictor, Reuse
from ..schedules import Accumulated
from ..tokens import All, Tokens


def SeaCache(
    threshold: float = 0.3,
    *,
    beta: float = 2.0,
    noise: Noise | None = None,
    first: int = 1,
    last: int = 1,
    max_skips: int | None = None,
    site: str = "stack",
    predictor: Predictor | None = None,
    codec: Codec | None = None,
    tokens: Tokens | None = None,
) -> Method:
    """SeaCache (arXiv 2602.18993): TeaCache's rule on what is signal at the step, without a polynomial.

    The modulated input of block 0 goes through the Wiener filter of the step before it is compared, on the true token
    grid; `beta` is 2 for images and 3 for video. `noise` says what a timestep means: `Flow()`, the default, or
    `DDPM(alphas_cumprod)` for models that predict noise. Published thresholds for FLUX are 0.3 and 0.6. One residual is
    cached, that of the whole stack of blocks. See `Accumulated` for the rule and the other keywords.

    Raises MethodError when a value makes no sense.
    """
    return Method(
        name="SeaCache",
        site=site,
        schedule=Accumulated(
            indicator=Filtered(beta, Flow() if noise is None else noise),
            threshold=threshold,
            first=first,
            last=last,
            max_skips=max_skips,
        ),
        predictor=Reuse() if predictor is None else predictor,
        codec=Dense() if codec is None else codec,
        tokens=All() if tokens is None else tokens,
    )
