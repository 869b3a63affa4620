"""How long a device takes at least: the roofline model, call by call."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import astuple, dataclass, replace

import torch
from torch import fx

from fouriercache.cost.composites import is_of_capture, part_written
from fouriercache.cost.counts import GATHERS, CallCost, bytes_of_node, cost_of_call
from fouriercache.cost.devices import Device
from fouriercache.cost.liveness import owners
from fouriercache.cost.sizes import Size, hinted
from fouriercache.program import Program, tensor_of


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


def work_of(
    programs: Iterable[Program],
    device: Device,
    size: Size = hinted,
    *,
    between: int = 0,
    is_model: bool = False,
    kept: Collection[str] = (),
) -> Work:
    """Count what running the programs once each takes.

    The model is the roofline of Williams, Waterman and Patterson (Communications of the ACM 52(4), 2009), applied to
    each call by itself, as in calls that run one after the other with nothing fused between them::

        seconds = sum over calls of  launches * launch + max(arithmetic, traffic)

    Arithmetic is FLOPs / peak, or elements / rate of a function; traffic is that of each operand from where it lies:
    a cache if no more bytes than that holds have been touched since its last use (the stack distance of Mattson and
    others, IBM Systems Journal 9(2), 1970), else memory. On a device where they do not overlap, they add up.

    Args:
        size: what dynamic sizes are.
        between: bytes that other programs touch between two runs of these.
        is_model: whether the model itself runs, whose capture this is: it writes into parts of tensors where a capture
            makes whole ones, copies nothing for dropout that is off, and calls modules.
        kept: names of calls whose results are there already, as of tables that a model keeps between forwards.

    Raises MethodError when the device has no peak for a dtype that matrices are multiplied in.
    """
    total = Work()
    for program in programs:
        spared = _spared(program, kept)
        calls = [node for node in program.calls() if node not in spared]
        found = [(node, _cost(node, device, size, is_model=is_model)) for node in calls]
        costs = [cost for _, cost in found if cost is not None]
        moved = sum(cost.read + cost.written for cost in costs)
        memory = _Memory(program, device, size, between + moved)
        seconds = sum(
            _views_seconds(node, device) if cost is None else _seconds(cost, device, memory.use(node, cost))
            for node, cost in found
        )
        seconds += device.module * _modules(calls) if is_model else 0.0
        flops, launches = sum(cost.flops for cost in costs), sum(cost.launches for cost in costs)
        total += Work(flops, launches, moved, seconds)
    return total


def _modules(calls: Iterable[fx.Node]) -> int:
    """How many modules' forwards the calls are from, one within the other."""
    return len({place for node in calls for place in node.meta.get("nn_module_stack") or ()})


def _spared(program: Program, kept: Collection[str]) -> set[fx.Node]:
    """The calls `kept`, and what nothing needs but them."""
    if not kept:
        return set()
    # what nobody needs, the model computes all the same; what only asserts something of a value has no value
    needed, todo = set[fx.Node](), [n for n in program.calls() if n in program.results or _is_for_nobody(n)]
    while todo:
        node = todo.pop()
        if node not in needed and node.name not in kept:
            needed.add(node)
            todo += node.all_input_nodes
    return {node for node in program.calls() if node not in needed}


def _is_for_nobody(node: fx.Node) -> bool:
    return not node.users and tensor_of(node) is not None


def _cost(node: fx.Node, device: Device, size: Size, *, is_model: bool) -> CallCost | None:
    if is_model and is_of_capture(node):
        return None
    cost = cost_of_call(node, size, fused_norms=device.fused_norms)
    part = part_written(node, size) if is_model else None
    return cost if cost is None or part is None else replace(cost, read=2 * part, written=part)


class _Memory:
    """Where operands lie while a program runs again and again.

    Args:
        period: bytes that are touched from a run's beginning to that of the next.
    """

    def __init__(self, program: Program, device: Device, size: Size, period: int) -> None:
        self._device, self._size = device, size
        self._is_flat = not device.caches and device.products is None  # all comes from one place
        self._owner = {} if self._is_flat else owners(program, size)
        self._period, self._touched = period, 0
        self._last: dict[fx.Node, int] = {}

    def use(self, node: fx.Node, cost: CallCost) -> float:
        """Seconds that the traffic of the next call takes."""
        touched = cost.read + cost.written
        if self._is_flat:
            return touched / self._device.bandwidth
        seconds, rest = 0.0, touched
        sources = [self._owner.get(source, source) for source in node.all_input_nodes]
        for place, (source, owner) in enumerate(zip(node.all_input_nodes, sources, strict=True)):
            if place == 0 and node.target in GATHERS:
                continue  # of a table it reads what it returns
            read = min(bytes_of_node(source, self._size), rest)
            # what is there before the program begins was last used in the run before
            since = self._touched - self._last[owner] if owner in self._last else self._period
            seconds += read / self._device.bandwidth_for(max(touched, since), cost.kind)
            rest -= read
        self._touched += touched
        self._last.update(dict.fromkeys([*sources, node], self._touched))
        return seconds + rest / self._device.bandwidth_for(touched)


def _views_seconds(node: fx.Node, device: Device) -> float:
    is_view = isinstance(node.target, torch._ops.OpOverload) and tensor_of(node) is not None
    return device.view if is_view else 0.0


def _seconds(cost: CallCost, device: Device, moving: float) -> float:
    if cost.flops:
        computing = cost.flops / (device.share(cost.kind) * device.peak(cost.dtype))
    elif cost.function in device.functions:
        computing = cost.elements / device.functions[cost.function]
    else:
        computing = 0.0
    together = max(computing, moving) if device.overlaps else computing + moving
    return cost.launches * device.launch + together
