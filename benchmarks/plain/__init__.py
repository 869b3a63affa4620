"""DiT and FLUX as plain torch modules: the published blocks at any size, for machines without diffusers.

Each model is three parts that a cache by hand can call one by one: `embed`, `stack` (all blocks) and `finish`.
Timesteps are whole numbers from 0 to 999, on the model's device or on the host.
"""

from __future__ import annotations

from typing import TypeAlias

from plain.dit import DIT_TINY, DIT_XL, DiTShape, PlainDiT
from plain.flux import FLUX_DEV, FLUX_TINY, FluxShape, PlainFlux

Shape: TypeAlias = DiTShape | FluxShape

__all__ = ["DIT_TINY", "DIT_XL", "FLUX_DEV", "FLUX_TINY", "DiTShape", "FluxShape", "PlainDiT", "PlainFlux", "Shape"]
