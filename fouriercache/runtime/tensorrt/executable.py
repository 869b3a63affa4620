"""A plan as an executable: tensors in, tensors out, bound by address, nothing of them copied."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from fouriercache.errors import EngineError
from fouriercache.program import Input
from fouriercache.runtime.tensorrt.device import Device
from fouriercache.runtime.tensorrt.engine import Engine, EngineTensor
from fouriercache.runtime.tensorrt.lane import Lane


class PlanExecutable:
    """A plan that is called like a program on any other backend.

    A ring of kept features is bound as it lies: the engine reads a slot at its own address, and a computed step writes
    what is kept into memory that nobody holds. Work is enqueued in torch's current stream; the host does not wait.

    Several threads may call it: calls take turns, on the device too, as an engine's own memory serves one at a time.
    """

    def __init__(self, engine: Engine, inputs: Sequence[Input], outputs: Sequence[str], device: Device, *,
                 capture: bool = True) -> None:  # fmt: skip
        """`capture`: record what runs again at the same addresses in CUDA graphs, if the engine can be recorded.

        Raises EngineError when the engine's tensors are not `inputs` and `outputs`.
        """
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self._engine, self._device, self._capture = engine, device, capture
        self._lanes: dict[int, Lane] = {}
        self._last: tuple[int, object] | None = None
        self._lock = threading.Lock()
        _check_names("inputs", [given.name for given in self.inputs], engine.inputs)
        _check_names("outputs", self.outputs, engine.outputs)

    def __call__(self, values: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Run on one tensor for each of `inputs`, in their order; returns one for each of `outputs`.

        Raises EngineError when a tensor has a shape, dtype or device that the plan was not built for, or the library
        refuses to run.
        """
        given = {put.name: value for put, value in zip(self.inputs, values, strict=True)}
        ready = {name: self._check(self._engine.inputs[name], value) for name, value in given.items()}
        with self._lock:
            lane = self._lane(self._choose_profile(ready))
            stream = self._device.stream()
            if self._last is not None and self._last[0] != stream:
                self._device.wait(self._last[1])
            found = lane.run(ready)
            self._last = stream, self._device.mark()
        return tuple(found[name] for name in self.outputs)

    def version(self) -> tuple[int, ...]:
        """Always the same: a plan's weights do not change."""
        return ()

    def _check(self, want: EngineTensor, value: Tensor) -> Tensor:
        shape = tuple(value.shape)
        fits = len(shape) == len(want.shape) and all(w in (-1, s) for w, s in zip(want.shape, shape, strict=True))
        if not fits or value.dtype != want.dtype:
            raise EngineError(
                f"the plan takes {want.name} as {want.dtype} of shape {want.shape}, and got {value.dtype} of shape "
                f"{shape}.\n  A -1 is the batch. Other resolutions and dtypes are other exports."
            )
        if not self._device.holds(value):
            raise EngineError(
                f"the plan runs on a GPU, and {want.name} is on {value.device}.\n  Move the pipeline there: to('cuda')."
            )
        return value.contiguous()  # a kept feature is contiguous as it comes from an engine, and so never copied

    def _choose_profile(self, values: Mapping[str, Tensor]) -> int:
        inputs = self._engine.inputs
        for profile in range(self._engine.profiles):
            if all(_is_within(tuple(value.shape), inputs[name].ranges[profile]) for name, value in values.items()):
                return profile
        name, value = next(
            (name, value)
            for name, value in values.items()
            if not any(_is_within(tuple(value.shape), limits) for limits in inputs[name].ranges)
        )
        limits = ", ".join(f"{least} to {most}" for least, most in inputs[name].ranges)
        raise EngineError(
            f"the plan was not built for this batch: {name} is {tuple(value.shape)}, and it takes {limits}.\n"
            "  Export with a profile that holds it; guidance in one batch doubles the number of images."
        )

    def _lane(self, profile: int) -> Lane:
        if profile not in self._lanes:
            self._lanes[profile] = Lane(self._engine, self._device, profile, capture=self._capture)
        return self._lanes[profile]


def _is_within(shape: Sequence[int], limits: tuple[Sequence[int], Sequence[int]]) -> bool:
    least, most = limits
    return all(low <= size <= high for low, size, high in zip(least, shape, most, strict=True))


def _check_names(kind: str, want: Sequence[str], have: Mapping[str, Any]) -> None:
    if sorted(want) != sorted(have):
        raise EngineError(
            f"the plan's {kind} are not those of its program: {', '.join(sorted(have))} instead of "
            f"{', '.join(sorted(want))}.\n  It was built from another model. Export again."
        )
