"""The best tokens by a score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..schedules import Place, TokenCounts
from .equal_ratio import EqualRatio
from .scores import Score, check_score


@dataclass(frozen=True)
class TopK:
    """Compute afresh the tokens with the highest score, `ratio` of them; the others take their kept value (ToCa).

    Only what is computed token by token can be cut to a few of them: the MLPs. Attention takes its kept value whole.
    The chosen tokens' new values are kept in turn. `ratio` is a share from 0 to 1, or a schedule of shares or counts
    by layer and step: `ToCaRatio`, `FixedCounts`.

    Raises MethodError when `score` is no score, or `ratio` neither a number from 0 to 1 nor a schedule.
    """

    name: ClassVar[str] = "topk"
    is_partial: ClassVar[bool] = True

    score: Score
    ratio: float | TokenCounts = 0.1

    def __post_init__(self) -> None:
        check_score("TopK", self.score)
        self._counts  # noqa: B018  # a ratio that makes no sense is refused here

    @property
    def _counts(self) -> TokenCounts:
        return self.ratio if isinstance(self.ratio, TokenCounts) else EqualRatio(self.ratio)

    @property
    def needs_num_steps(self) -> bool:
        """Whether the schedule of ratios needs the number of steps."""
        return self._counts.needs_num_steps

    @property
    def is_static(self) -> bool:
        """Whether a site's count is the same at every step."""
        return self._counts.is_static

    def count(self, place: Place, step: int, num_steps: int | None) -> int:
        """Return how many tokens of the site at `place` are computed at `step`; see `PartialTokens`."""
        return self._counts.count(place, step, num_steps)
