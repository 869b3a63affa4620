"""One execution context of an engine, for one profile: shapes and addresses set, work enqueued, or a recording run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

from torch import Tensor

from fouriercache.errors import EngineError
from fouriercache.runtime.tensorrt.device import Device
from fouriercache.runtime.tensorrt.engine import Engine, shown

_MOST_RECORDINGS = 16
"""Recordings that are kept; a ring of K features returns to the same addresses after K + 1 computed steps."""
_MOST_SEEN = 256
"""Addresses that are remembered to see whether they recur."""

_Addresses = tuple[int, ...]


class Lane:
    """Runs an engine in one of its profiles, one call at a time.

    What runs the second time at the same addresses is recorded, and from then on the recording runs: torch's allocator
    gives a denoising loop the same addresses again and again. A recording is of one set of shapes, so when those change
    all go. Before anything is recorded the same shapes have run once, as the library asks.
    """

    def __init__(self, engine: Engine, device: Device, profile: int, *, capture: bool) -> None:
        """Raises EngineError when the library makes no context or does not take the profile."""
        self._engine, self._device = engine, device
        self._context = engine.handle.create_execution_context()
        if self._context is None:
            raise EngineError(
                "the library makes no context for the plan; often the GPU is short of memory.\n" + shown(engine.log)
            )
        if engine.profiles > 1 and not self._context.set_optimization_profile_async(profile, device.stream()):
            raise EngineError(f"the library does not take the plan's profile {profile}.\n{shown(engine.log)}")
        self._capture = capture
        self._names = (*engine.inputs, *engine.outputs)
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._sizes: dict[str, tuple[int, ...]] = {}
        self._bound: dict[str, int] = {}
        self._seen: OrderedDict[_Addresses, None] = OrderedDict()
        self._recordings: OrderedDict[_Addresses, Callable[[], None]] = OrderedDict()

    def run(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Enqueue one run in order with the current stream; return the outputs by name, in fresh memory.

        Raises EngineError when the library refuses.
        """
        self._set_shapes(values)
        outputs = {
            name: self._device.empty(self._sizes[name], tensor.dtype) for name, tensor in self._engine.outputs.items()
        }
        tensors = {**values, **outputs}
        key = tuple(self._device.address(tensors[name]) for name in self._names)
        if key not in self._recordings and key in self._seen and self._can_capture():
            self._bind(key)
            self._recordings[key] = self._device.capture(self._enqueue)
            if len(self._recordings) > _MOST_RECORDINGS:
                self._recordings.popitem(last=False)
        if key in self._recordings:
            self._recordings.move_to_end(key)
            self._recordings[key]()
            return outputs
        self._seen[key] = None
        if len(self._seen) > _MOST_SEEN:
            self._seen.popitem(last=False)
        self._bind(key)
        self._device.enqueue(self._enqueue)
        return outputs

    def _set_shapes(self, values: Mapping[str, Tensor]) -> None:
        shapes = {name: tuple(value.shape) for name, value in values.items()}
        if shapes == self._shapes:
            return
        self._shapes = {}  # until all of them are set
        self._seen.clear()
        self._recordings.clear()
        for name, shape in shapes.items():
            if not self._context.set_input_shape(name, shape):
                raise EngineError(f"the library does not take {name} of shape {shape}.\n{shown(self._engine.log)}")
        missing = self._context.infer_shapes()
        if missing:
            raise EngineError(f"the library cannot tell the shapes of {', '.join(missing)}.\n{shown(self._engine.log)}")
        self._sizes = {name: tuple(self._context.get_tensor_shape(name)) for name in self._engine.outputs}
        self._shapes = shapes

    def _bind(self, key: _Addresses) -> None:
        for name, address in zip(self._names, key, strict=True):
            if self._bound.get(name) == address:
                continue
            if not self._context.set_tensor_address(name, address):
                raise EngineError(f"the library does not take the address of {name}.\n{shown(self._engine.log)}")
            self._bound[name] = address

    def _enqueue(self, stream: int) -> None:
        if not self._context.execute_async_v3(stream):
            raise EngineError(f"the library did not run the plan.\n{shown(self._engine.log)}")

    def _can_capture(self) -> bool:
        """Only TensorRT-RTX can tell; where nobody can, nothing is recorded."""
        asks = getattr(self._context, "is_stream_capturable", None)
        return self._capture and asks is not None and bool(asks(self._device.capture_stream()))
