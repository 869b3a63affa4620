"""A TensorRT whose plans are names of ONNX files: engines run them in ONNX Runtime, through the addresses they get.

So a whole denoising loop can run on what runs plans, and be compared with the module it was exported from.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import torch

from tests.runtime.fake_tensorrt import CapturableContext, FakeDevice, FakeEngine, Location, Mode, fake_library

_DTYPES = {"tensor(float)": "FLOAT", "tensor(int64)": "INT64", "tensor(bool)": "BOOL", "tensor(float16)": "HALF"}


class OrtEngine(FakeEngine):
    """An engine of one ONNX file, any batch."""

    def __init__(self, device: FakeDevice, path: Path) -> None:
        super().__init__(device, ((1, 4096),))
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.given = {tensor.name: tensor for tensor in self.session.get_inputs()}
        self.returned = {tensor.name: tensor for tensor in self.session.get_outputs()}
        self.num_io_tensors = len(self.given) + len(self.returned)
        self.context = OrtContext

    def get_tensor_name(self, index: int) -> str:
        return str([*self.given, *self.returned][index])

    def get_tensor_mode(self, name: str) -> object:
        return Mode.INPUT if name in self.given else Mode.OUTPUT

    def get_tensor_location(self, name: str) -> object:
        return Location.DEVICE

    def get_tensor_dtype(self, name: str) -> object:
        return SimpleNamespace(name=_DTYPES[(self.given | self.returned)[name].type])

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(size if isinstance(size, int) else -1 for size in (self.given | self.returned)[name].shape)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        least, most = self.ranges[profile]
        shape = self.get_tensor_shape(name)
        return [tuple(end if size == -1 else size for size in shape) for end in (least, least, most)]


class OrtContext(CapturableContext):
    """Runs the session on what lies at the addresses, and writes its results there."""

    engine: OrtEngine

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        sizes = {
            want: have
            for given, shape in self.shapes.items()
            for want, have in zip(self.engine.given[given].shape, shape, strict=True)
        }
        return tuple(size if isinstance(size, int) else sizes[size] for size in self.engine.returned[name].shape)

    def execute_async_v3(self, stream: int) -> bool:
        addresses, memory = dict(self.addresses), self.engine.device.memory

        def step() -> None:
            given = {name: memory[addresses[name]].numpy() for name in self.engine.given}
            for name, value in zip(self.engine.returned, self.engine.session.run(None, given), strict=True):
                memory[addresses[name]].copy_(torch.from_numpy(np.asarray(value)))

        if self.engine.device.recording is None:
            step()
        else:
            self.engine.device.recording.append(step)
        return self._say("execute", stream)


def ort_library(device: FakeDevice, folder: Path) -> Any:
    """The module; a plan is the name of an ONNX file in `folder`."""
    library = fake_library(None)

    class Runtime(library.Runtime):  # type: ignore[misc,name-defined]
        def deserialize_cuda_engine(self, data: bytes) -> FakeEngine:
            return OrtEngine(device, folder / data.decode())

    library.Runtime = Runtime
    return library
