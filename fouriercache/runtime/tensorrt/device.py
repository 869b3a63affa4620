"""What running a plan asks of a GPU: memory, addresses, the current stream, order between streams, and capture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from fouriercache.errors import EngineError


class Device(Protocol):
    """A GPU, or what stands in for one in tests."""

    def capability(self) -> str:
        """Its compute capability, "sm89"."""
        ...

    def stream(self) -> int:
        """The handle of the current stream."""
        ...

    def capture_stream(self) -> int:
        """The handle of the stream that recordings are made on."""
        ...

    def holds(self, tensor: Tensor) -> bool:
        """Whether the tensor lies in its memory."""
        ...

    def address(self, tensor: Tensor) -> int:
        """Where the tensor's first element lies."""
        ...

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Memory that nobody else holds, for work on the current stream."""
        ...

    def mark(self) -> object:
        """The end of what is enqueued on the current stream."""
        ...

    def wait(self, mark: object) -> None:
        """Let the current stream wait for a mark."""
        ...

    def enqueue(self, work: Callable[[int], None]) -> None:
        """Let `work` enqueue on the stream whose handle it is given, in order with the current stream."""
        ...

    def capture(self, work: Callable[[int], None]) -> Callable[[], None]:
        """Record what `work` enqueues on the stream whose handle it is given, without running it.

        Returns what runs the recording on the then current stream.
        """
        ...


class CudaDevice:
    """torch's current CUDA device."""

    def __init__(self) -> None:
        self._index = torch.cuda.current_device()
        self._side = torch.cuda.Stream(self._index)

    def place(self) -> torch.device:
        """Where its tensors are, as torch says it."""
        return torch.device("cuda", self._index)

    def capability(self) -> str:
        major, minor = torch.cuda.get_device_capability(self._index)
        return f"sm{major}{minor}"

    def stream(self) -> int:
        return _handle(torch.cuda.current_stream(self._index))

    def capture_stream(self) -> int:
        return _handle(self._side)

    def holds(self, tensor: Tensor) -> bool:
        return tensor.device.type == "cuda" and tensor.device.index == self._index

    def address(self, tensor: Tensor) -> int:
        return tensor.data_ptr()

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return torch.empty(tuple(shape), dtype=dtype, device=torch.device("cuda", self._index))

    def mark(self) -> object:
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self._index))
        return event

    def wait(self, mark: Any) -> None:
        torch.cuda.current_stream(self._index).wait_event(mark)

    def enqueue(self, work: Callable[[int], None]) -> None:
        current = torch.cuda.current_stream(self._index)
        if current != torch.cuda.default_stream(self._index):
            work(_handle(current))
            return
        # On the default stream the library waits for the whole device; a stream in between does what it would do.
        self._side.wait_stream(current)
        work(_handle(self._side))
        current.wait_stream(self._side)

    def capture(self, work: Callable[[int], None]) -> Callable[[], None]:
        # Not torch.cuda.graph: it empties the allocator's cache, and addresses would recur no more.
        graph = torch.cuda.CUDAGraph()
        self._side.wait_stream(torch.cuda.current_stream(self._index))
        with torch.cuda.stream(self._side):
            # Thread-local: what another request's thread allocates meanwhile does not end the capture.
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                work(_handle(self._side))
            finally:
                graph.capture_end()
        return graph.replay


def _handle(stream: torch.cuda.Stream) -> int:
    handle: int = stream.cuda_stream
    return handle


def find_device() -> CudaDevice:
    """Return torch's current CUDA device.

    Raises:
        EngineError: torch sees none.
    """
    if not torch.cuda.is_available():
        built = torch.version.cuda
        why = (
            "this build of torch is for CPUs" if built is None else f"torch was built for CUDA {built} and finds no GPU"
        )
        raise EngineError(
            f"a TensorRT plan runs on a CUDA device, and there is none: {why}.\n"
            "  Plans are built without a GPU, but run on the one they were built for. Here, load the bundle with "
            "backend='onnxruntime'."
        )
    return CudaDevice()
