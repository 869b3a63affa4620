"""The same share of the tokens everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..checks import check_number
from ..schedules import Place


@dataclass(frozen=True)
class EqualRatio:
    """`int(ratio * tokens)` at every site and step.

    Raises MethodError when `ratio` is not a number from 0 to 1.
    """

    needs_num_steps: ClassVar[bool] = False
    is_static: ClassVar[bool] = True

    ratio: float

    def __post_init__(self) -> None:
        check_number("EqualRatio", "ratio", self.ratio, least=0, most=1, advice="0.1 computes one token in ten.")

    def count(self, place: Place, step: int, num_steps: int | None) -> int:  # noqa: ARG002  # the protocol names all
        """Return the count of a site."""
        return int(self.ratio * place.tokens)
