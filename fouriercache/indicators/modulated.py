"""The modulated input of the first block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import Source, UnfilteredIndicator


@dataclass(frozen=True)
class Modulated(UnfilteredIndicator):
    """What the first branch of the first block reads: the normalised tokens, scaled and shifted by the timestep.

    TeaCache's indicator for FLUX, HunyuanVideo, Mochi, LTX-Video, Open-Sora, Latte and others: `norm1(x, emb)[0]` of
    block 0 (TeaCache4FLUX/teacache_flux.py). It depends on latents and timestep, and takes the patch embedding, one
    normalisation and part of one modulation to compute.
    """

    name: ClassVar[str] = "modulated"
    source: ClassVar[Source] = "modulated"
