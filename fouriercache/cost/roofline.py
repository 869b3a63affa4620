"""How long a device takes at least: the roofline model, call by call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass

from fouriercache.cost.counts import CallCost, cost_of_call
from fouriercache.cost.devices import Device
from fouriercache.cost.sizes import Size, hinted
from fouriercache.program import Program


@dataclass(frozen=True)
class Work:
    """What is done, and how long it takes.

    Attributes:
        flops, launches: as in `ModeCost`. moved: bytes read and written. seconds: on the device, at least.
    """

    flops: int = 0
    launches: int = 0
    moved: int = 0
    seconds: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))

    def times(self, count: float) -> Work:
        """The same so many times; a share of it for a mean."""
        flops, launches, moved = (round(count * value) for value in (self.flops, self.launches, self.moved))
        return Work(flops, launches, moved, count * self.seconds)


def work_of(programs: Iterable[Program], device: Device, size: Size = hinted) -> Work:
    """Count what running the programs once each takes.

    The model is the roofline of Williams, Waterman and Patterson (Communications of the ACM 52(4), 2009), applied to
    each call by itself, as in calls that run one after the other with nothing fused between them::

        seconds = sum over calls of  launches * launch + max(FLOPs / peak, bytes / bandwidth)

    Args:
        size: what dynamic sizes are.

    Raises MethodError when the device has no peak for a dtype that matrices are multiplied in.
    """
    total = Work()
    for program in programs:
        found = [cost_of_call(node, size, fused_norms=device.fused_norms) for node in program.calls()]
        costs = [cost for cost in found if cost is not None]
        total += Work(
            sum(cost.flops for cost in costs),
            sum(cost.launches for cost in costs),
            sum(cost.read + cost.written for cost in costs),
            sum(_seconds(cost, device) for cost in costs),
        )
    return total


def _seconds(cost: CallCost, device: Device) -> float:
    waiting, touched = cost.launches * device.launch, cost.read + cost.written
    moving = touched / device.bandwidth_for(touched)
    if not cost.flops:
        return waiting + moving
    share = device.attention if cost.kind == "attention" else 1.0
    return waiting + max(cost.flops / (share * device.peak(cost.dtype)), moving)
