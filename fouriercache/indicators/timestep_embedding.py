"""The embedding of the timestep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import Source, UnfilteredIndicator


@dataclass(frozen=True)
class TimestepEmbedding(UnfilteredIndicator):
    """The timestep's embedding, which does not depend on the latents: the same steps are computed for every input.

    TeaCache's indicator for CogVideoX and ConsisID (`emb`), HiDream and Wan2.1 (`e`). With `projected`, what the next
    linear makes of it, in Wan2.1 the modulation of all blocks (`e0`, published with `--use_ret_steps`).
    """

    name: ClassVar[str] = "timestep"

    projected: bool = False

    @property
    def source(self) -> Source:
        """The embedder's second linear, or the linear that follows."""
        return "timestep projection" if self.projected else "timestep embedding"
