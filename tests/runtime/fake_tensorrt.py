"""A TensorRT library and a device that run on the CPU and write down every call, in order.

The engine computes `result = sample + slot` and `kept = 2 * sample`, float32 [batch, 4], through the addresses that it
was given. What lies at an address is looked up when work runs, and only as long as somebody holds it, so that a wrong
or stale address gives wrong numbers or none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from types import SimpleNamespace
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor

INPUTS, OUTPUTS = ("sample", "slot"), ("result", "kept")


class FakeDevice:
    """Memory by address, and the calls."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self.calls = calls
        self.memory: WeakValueDictionary[int, Tensor] = WeakValueDictionary()
        self.current, self.kind = 7, "sm89"
        self.pool: list[Tensor] = []
        self.recording: list[Callable[[], None]] | None = None

    def place(self) -> torch.device:
        return torch.device("cpu")

    def capability(self) -> str:
        return self.kind

    def stream(self) -> int:
        return self.current

    def capture_stream(self) -> int:
        return 99

    def holds(self, tensor: Tensor) -> bool:
        return tensor.device.type == "cpu"

    def address(self, tensor: Tensor) -> int:
        self.memory[tensor.data_ptr()] = tensor
        return tensor.data_ptr()

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return self.pool.pop(0) if self.pool else torch.full(tuple(shape), torch.nan, dtype=dtype)

    def mark(self) -> object:
        return ("mark", self.current)

    def wait(self, mark: object) -> None:
        self.calls.append(("wait", mark, self.current))

    def enqueue(self, work: Callable[[int], None]) -> None:
        work(self.current)

    def capture(self, work: Callable[[int], None]) -> Callable[[], None]:
        self.calls.append(("capture",))
        recorded: list[Callable[[], None]] = []
        self.recording = recorded
        try:
            work(self.capture_stream())
        finally:
            self.recording = None

        def replay() -> None:
            self.calls.append(("replay",))
            for step in recorded:
                step()

        return replay


class FakeContext:
    """An execution context that writes down what it is told, and refuses the call called `refuses`."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def _say(self, *call: Any) -> bool:
        self.engine.calls.append(call)
        return bool(self.engine.refuses != call[0])

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        return self._say("profile", profile, stream)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return self._say("shape", name, shape)

    def infer_shapes(self) -> list[str]:
        return [] if self._say("infer") else ["kept"]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes["sample"]

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert self.engine.device.recording is None, "an address changed while a recording was made"
        self.addresses[name] = address
        return self._say("address", name, address)

    def execute_async_v3(self, stream: int) -> bool:
        addresses, memory = dict(self.addresses), self.engine.device.memory

        def step() -> None:
            sample, slot, result, kept = (memory[addresses[name]] for name in (*INPUTS, *OUTPUTS))
            result.copy_(sample + slot)
            kept.copy_(2 * sample)

        if self.engine.device.recording is None:
            step()
        else:
            self.engine.device.recording.append(step)
        return self._say("execute", stream)


class CapturableContext(FakeContext):
    """TensorRT-RTX's, which can say whether it can be recorded."""

    def is_stream_capturable(self, stream: int) -> bool:
        return self._say("capturable", stream)


class FakeEngine:
    """An engine with one range of batch sizes for each profile."""

    def __init__(self, device: FakeDevice, ranges: Sequence[tuple[int, int]], *, rtx: bool = True) -> None:
        self.device, self.ranges, self.calls = device, ranges, device.calls
        self.refuses = ""
        self.context: type[FakeContext] = CapturableContext if rtx else FakeContext
        self.num_io_tensors = 4
        self.num_optimization_profiles = len(ranges)
        self.dtype, self.location = "FLOAT", "DEVICE"

    def get_tensor_name(self, index: int) -> str:
        return (*INPUTS, *OUTPUTS)[index]

    def get_tensor_mode(self, name: str) -> object:
        return Mode.INPUT if name in INPUTS else Mode.OUTPUT

    def get_tensor_location(self, name: str) -> object:
        return Location[self.location]

    def get_tensor_dtype(self, name: str) -> object:
        return SimpleNamespace(name=self.dtype)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, 4)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        least, most = self.ranges[profile]
        return [(least, 4), (least, 4), (most, 4)]

    def create_execution_context(self) -> FakeContext | None:
        self.calls.append(("context",))
        return None if self.refuses == "context" else self.context(self)


class Mode(Enum):
    INPUT = 1
    OUTPUT = 2


class Location(Enum):
    DEVICE = 1
    HOST = 2


class Severity(Enum):
    ERROR = 1
    WARNING = 2
    INFO = 3


class Validity(Enum):
    VALID = 0
    INVALID = 2


class Diagnostics(int, Enum):
    VERSION_MISMATCH = 1
    UNSUPPORTED_CC = 2


class Logger:
    Severity = Severity


def fake_library(engine: FakeEngine | None, *, validity: tuple[Validity, int] | None = (Validity.VALID, 0)) -> Any:
    """The module: its runtime deserialises to `engine`, or logs why not. A `validity` of None: it cannot be asked."""

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, data: bytes) -> FakeEngine | None:
            if engine is None:
                self.logger.log(Severity.ERROR, "the plan is not to its taste")
            return engine

    class AskedRuntime(Runtime):
        def get_engine_validity(self, data: bytes) -> tuple[Validity, int] | None:
            return validity

    return SimpleNamespace(
        ILogger=Logger,
        Runtime=Runtime if validity is None else AskedRuntime,
        TensorIOMode=Mode,
        TensorLocation=Location,
        EngineValidity=Validity,
        EngineInvalidityDiagnostics=Diagnostics,
    )
