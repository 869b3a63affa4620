"""A predictor's scalars as the graph takes them, and the inner products it may ask for. No tensors, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import cast

from fouriercache.errors import MethodError
from fouriercache.predictors import Coefficients, GramPredictor, Grams, Predictor


def padded_coefficients(predictor: Predictor, computed: tuple[int, ...], step: int, grams: Grams) -> Coefficients:
    """Return exactly `predictor.history` scalars for each band.

    Raises MethodError when the predictor's are too many or not finite, or its bands are not those of its edges.
    """
    if predictor.needs_gram:
        table = cast(GramPredictor, predictor).table(computed, step, grams)
    else:
        table = predictor.table(computed, step)
    most, bands = min(predictor.history, len(computed)), len(predictor.edges) + 1
    rows = [row for site in table for row in site]
    is_usable = table and all(len(site) == bands for site in table)
    if not is_usable or any(len(row) > most or not all(map(isfinite, row)) for row in rows):
        raise MethodError(
            f"The predictor {predictor.name!r} gave coefficients that cannot be used: {table}.\n"
            f"  where: {predictor!r}, step {step} from computed steps {computed}\n"
            f"  Return finite scalars for {bands} band(s), at most one for each computed step and at most "
            f"history={predictor.history}."
        )
    return tuple(tuple((*row, *(0.0,) * (predictor.history - len(row))) for row in site) for site in table)


def extended(grams: Grams, products: Sequence[Sequence[float]], most: int) -> Grams:
    """Return the Gram matrices with the newest feature in front, those of at most `most` features.

    `products` has for each site the inner products of the newest feature with itself and each older one, newest first.
    """
    older = grams or ((),) * len(products)
    return tuple(
        (tuple(row[:most]), *((value, *kept[: most - 1]) for value, kept in zip(row[1:most], gram, strict=False)))
        for row, gram in zip(products, older, strict=True)
    )


def without_products(step: int) -> MethodError:
    """Return the error of a predictor that asks for inner products where nothing makes them."""
    return MethodError(
        "The predictor depends on the inner products of the kept features, and nothing here makes them.\n"
        f"  where: step {step}\n"
        "  Let optimize() run the model, or give them to commit(plan, products)."
    )


def without_whole_steps(step: int) -> MethodError:
    """Return the error of a predictor that asks for inner products where sites are computed at different steps."""
    return MethodError(
        "The predictor depends on the inner products of whole steps, and the schedule computes single sites between.\n"
        f"  where: step {step}\n"
        "  Use a schedule that computes all sites or none."
    )
