"""The latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import Source, UnfilteredIndicator


@dataclass(frozen=True)
class Latents(UnfilteredIndicator):
    """The model's input as it is. Costs nothing, and knows nothing of what the model makes of the timestep."""

    name: ClassVar[str] = "latents"
    source: ClassVar[Source] = "latents"
