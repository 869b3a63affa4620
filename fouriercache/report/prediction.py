"""What the cost model says of one loop, as plain values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Prediction:
    """One loop's time over that of the uncached one, as predicted; `label` is that of its run.

    Fields:
        here: on this processor, measured in the demo. there: on the GPU called `gpu`, by its data sheet.
        flops: its FLOPs over those of the uncached loop. memory: bytes that its costliest step takes.
    """

    label: str
    here: float
    there: float
    gpu: str
    flops: float
    memory: int
