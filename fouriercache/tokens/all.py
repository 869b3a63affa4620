"""Every token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class All:
    """Every token takes the predicted value; nothing of a site runs at a cached step."""

    name: ClassVar[str] = "all"
    is_partial: ClassVar[bool] = False
