"""TeaCache."""

from __future__ import annotations

from ..checks import suggest
from ..codecs import Codec, Dense
from ..errors import MethodError
from ..indicators import Indicator
from ..methods import Method
from ..predictors import Predictor, Reuse
from ..schedules import Accumulated, Polynomial
from ..tokens import All, Tokens
from .published_polynomials import PUBLISHED_POLYNOMIALS, PublishedPolynomial


def TeaCache(
    threshold: float = 0.2,
    coefficients: str | Polynomial | None = None,
    *,
    indicator: Indicator | None = None,
    first: int | None = None,
    last: int | None = None,
    max_skips: int | None = None,
    site: str = "stack",
    predictor: Predictor | None = None,
    codec: Codec | None = None,
    tokens: Tokens | None = None,
) -> Method:
    """TeaCache (TeaCache4FLUX/teacache_flux.py): compute when the modulated input of block 0 has moved far enough.

    One residual is cached, that of the whole stack of blocks. `coefficients` names the published model whose polynomial
    turns the input's change into the output's ("FLUX.1-dev", "Wan2.1-T2V-14B", ...), or is a polynomial of your own.
    Without, the change itself is accumulated: a threshold then means another thing than a published one.

    A published name brings the indicator it was fitted on and the steps at both ends that are always computed;
    `indicator`, `first` and `last` say otherwise. See `Accumulated` for the rule and the other keywords.

    Raises MethodError when no published polynomial has that name, or a value makes no sense.
    """
    known = _published(coefficients)
    return Method(
        name="TeaCache",
        site=site,
        schedule=Accumulated(
            indicator=known.indicator if indicator is None else indicator,
            threshold=threshold,
            rescale=coefficients if isinstance(coefficients, Polynomial) else known.polynomial,
            first=known.first if first is None else first,
            last=known.last if last is None else last,
            max_skips=max_skips,
        ),
        predictor=Reuse() if predictor is None else predictor,
        codec=Dense() if codec is None else codec,
        tokens=All() if tokens is None else tokens,
    )


def _published(coefficients: object) -> PublishedPolynomial:
    """What a name stands for; the change itself, and the published ends, for anything that is no name."""
    if coefficients is None or isinstance(coefficients, Polynomial):
        return PublishedPolynomial((1.0, 0.0))
    if isinstance(coefficients, str) and coefficients in PUBLISHED_POLYNOMIALS:
        return PUBLISHED_POLYNOMIALS[coefficients]
    raise MethodError(
        f"TeaCache knows no coefficients {coefficients!r}.\n"
        f"  where: TeaCache(coefficients={coefficients!r})\n"
        f"  Use one of {', '.join(PUBLISHED_POLYNOMIALS)}, a Polynomial, or None for the bare change."
        f"{suggest(coefficients, PUBLISHED_POLYNOMIALS)}"
    )
