"""The value as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import Storage


@dataclass(frozen=True)
class Dense:
    """Keep the value as it is: same shape, same dtype, no error."""

    name: ClassVar[str] = "dense"
    needs_grid: ClassVar[bool] = False
    storage: ClassVar[Storage] = Storage()
