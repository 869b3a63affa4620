"""A number of tokens for each block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..checks import check_whole
from ..errors import MethodError
from ..schedules import Place


@dataclass(frozen=True)
class FixedCounts:
    """A number of tokens for each block, the last one for all blocks behind it: sizes that an engine can be built for.

    Raises MethodError when there is no number, or one is not a whole number of at least 0.
    """

    needs_num_steps: ClassVar[bool] = False
    is_static: ClassVar[bool] = True

    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        _check_counts(self.counts)

    def count(self, place: Place, step: int, num_steps: int | None) -> int:  # noqa: ARG002  # the protocol names all
        """Return the count of a site. Raises MethodError when it has fewer tokens."""
        count = self.counts[min(place.layer, len(self.counts) - 1)]
        if count > place.tokens:
            raise MethodError(
                f"FixedCounts asks for {count} tokens of a site that has {place.tokens}.\n"
                f"  where: {self!r}, block {place.layer}\n"
                f"  Ask for at most {place.tokens}."
            )
        return count


def _check_counts(counts: object) -> None:
    if not isinstance(counts, tuple) or not counts:
        raise MethodError(
            f"FixedCounts needs a tuple of numbers, got {counts!r}.\n"
            f"  where: FixedCounts({counts!r})\n"
            "  Pass one for each block, or one for all: FixedCounts((32,))."
        )
    for index, count in enumerate(counts):
        check_whole("FixedCounts", f"counts[{index}]", count, least=0, advice="0 computes no token of the block.")
