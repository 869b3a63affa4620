"""What one pass of a running trajectory holds."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from fouriercache.questions import Questions
from fouriercache.runtime.conditioning import Hoisted, Remembered
from fouriercache.steps import ModeKey


@dataclass
class PassState:
    """What one pass of a trajectory holds.

    `ring` has what is kept of each site, by column, newest first. A step that computes the site puts one in front and
    drops those that nothing reads at their age; no tensor is copied. `states` has what else graphs hand on, by name (an
    adaptive schedule's indicator). `hoisted` is kept for each step mode, and for the probe; `made_by` marks the stepper
    that made it. `is_restless`: other conditioning came in mid-trajectory; nothing is made for steps to come any more
    unless they are prepared, and sums in no case.
    """

    ring: dict[str, list[Tensor]] = field(default_factory=dict)
    states: dict[str, Tensor] = field(default_factory=dict)
    hoisted: dict[ModeKey | str, Hoisted] = field(default_factory=dict)
    conditioning: Remembered | None = None
    sample: Remembered | None = None
    questions: Questions | None = None
    is_restless: bool = False
    made_by: object = None

    def drop_hoisted(self) -> None:
        """Forget what was made of the conditioning."""
        self.is_restless |= bool(self.hoisted)
        self.hoisted.clear()

    def features(self) -> list[Tensor]:
        """All that is kept of earlier steps."""
        return [tensor for values in self.ring.values() for tensor in values] + list(self.states.values())
