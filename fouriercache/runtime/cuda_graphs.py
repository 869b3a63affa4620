"""Programs recorded in CUDA graphs: the host launches a whole step at once.

Unproven on a GPU so far: what is here is held to its rules by a recorder that is not there alone; see docs/gpu.md.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import torch
from torch import Tensor, fx

from fouriercache.errors import LoweringError
from fouriercache.program import Input

_Run: TypeAlias = Callable[..., tuple[Tensor, ...]]
_Key: TypeAlias = tuple[object, ...]

_MOST_RECORDINGS = 8
"""Of one program: kept features lie at as many places in turn as a ring has, and one more."""
_MOST_SEEN = 64


class Recorder(Protocol):
    """What recording asks of a GPU, or what stands in for one in tests."""

    def holds(self, tensor: Tensor) -> bool:
        """Whether the tensor lies in its memory."""
        ...

    def record(self, work: _Run) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        """Record what `work` enqueues, without running it.

        Returns what runs the recording on the then current stream, and the tensors that it writes each time.
        """
        ...

    def mark(self) -> object:
        """The end of what is enqueued on the current stream."""
        ...

    def wait(self, mark: object) -> None:
        """Let the current stream wait for a mark."""
        ...


class _CudaRecorder:
    """torch's current CUDA device. All its recordings share one pool of memory, so they run one after the other."""

    def __init__(self) -> None:
        self._index = torch.cuda.current_device()
        self._side = torch.cuda.Stream(self._index)
        self._pool = torch.cuda.graph_pool_handle()

    def holds(self, tensor: Tensor) -> bool:
        return tensor.device.type == "cuda" and tensor.device.index == self._index

    def record(self, work: _Run) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        # Not torch.cuda.graph: it empties the allocator's cache, and addresses would recur no more.
        graph = torch.cuda.CUDAGraph()
        current = torch.cuda.current_stream(self._index)
        self._side.wait_stream(current)
        with torch.cuda.stream(self._side):
            # Thread-local: what another request's thread allocates meanwhile does not end the recording.
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                results = work()
            finally:
                graph.capture_end()
        current.wait_stream(self._side)
        return graph.replay, results

    def mark(self) -> object:
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self._index))
        return event

    def wait(self, mark: object) -> None:
        assert isinstance(mark, torch.cuda.Event)
        torch.cuda.current_stream(self._index).wait_event(mark)


def find_recorder() -> Recorder:
    """Return torch's current CUDA device.

    Raises:
        LoweringError: torch sees none.
    """
    if not torch.cuda.is_available():
        raise LoweringError(
            "CUDA graphs are recorded on a CUDA device, and torch finds none.\n"
            "  Use backend='eager' or backend='inductor' here."
        )
    return _CudaRecorder()


class Turns:
    """Whose turn it is on a recorder: recordings share memory, so one begins when the last one has ended."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.lock = recorder, threading.Lock()
        self._last: object | None = None

    def begin(self) -> None:
        """Let the current stream wait for the last one's end."""
        if self._last is not None:
            self.recorder.wait(self._last)

    def end(self) -> None:
        """Remember the end of what is enqueued now."""
        self._last = self.recorder.mark()


class RecordedProgram:
    """A program that is recorded when it runs a second time in the same form, and replayed from then on.

    Kept features are read where they lie, so a recording is one for their addresses and those of the weights. All else
    that comes in is small and copied to where the recording reads it; what it gives is copied out. A call with
    gradients, or with a tensor that is not on the device, runs as it is.

    Args:
        module: of the program; its weights are those of the call.
        run: runs it; its first call may compile.
        inputs: what it takes. turns: shared by all programs on the recorder.
    """

    def __init__(self, module: fx.GraphModule, run: _Run, inputs: Sequence[Input], turns: Turns) -> None:
        self._module, self._run, self._turns = module, run, turns
        self._held = [given.role == "slot" for given in inputs]
        self._form: _Key = ()
        self._buffers: list[Tensor] = []
        self._seen: OrderedDict[_Key, None] = OrderedDict()
        self._recordings: OrderedDict[_Key, tuple[Callable[[], None], tuple[Tensor, ...]]] = OrderedDict()

    def __call__(self, *values: Tensor) -> tuple[Tensor, ...]:
        """Run on one tensor for each input, in their order."""
        if torch.is_grad_enabled() or not all(map(self._turns.recorder.holds, values)):
            return self._run(*values)
        with self._turns.lock:
            self._set_form(values)
            key = self._places(values)
            self._turns.begin()
            results = self._run_at(key, self._take(values))
            # what is given away lies in memory of its own: the next run writes where this one wrote
            found = tuple(result.clone() for result in results)
            self._turns.end()
            return found

    def _run_at(self, key: _Key, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Run as it is the first time, record the second, replay; `given` lies where the recording reads it."""
        warm = (threading.get_ident(), *key)  # each thread has handles of its own, which no recording may make
        if key not in self._recordings and warm not in self._seen:
            self._seen[warm] = None
            if len(self._seen) > _MOST_SEEN:
                self._seen.popitem(last=False)
            return self._run(*given)
        if key not in self._recordings:
            self._recordings[key] = self._turns.recorder.record(lambda: self._run(*given))
            if len(self._recordings) > _MOST_RECORDINGS:
                self._recordings.popitem(last=False)
        self._recordings.move_to_end(key)
        replay, results = self._recordings[key]
        replay()
        return results

    def _take(self, values: Sequence[Tensor]) -> list[Tensor]:
        """The kept features as they lie, and buffers with the values of all else."""
        copied = [value for value, held in zip(values, self._held, strict=True) if not held]
        if copied:
            torch._foreach_copy_(self._buffers, copied)
        buffers = iter(self._buffers)
        return [value if held else next(buffers) for value, held in zip(values, self._held, strict=True)]

    def _set_form(self, values: Sequence[Tensor]) -> None:
        """Forget all recordings when shapes, strides or dtypes are others than theirs."""
        form = tuple((value.shape, value.stride(), value.dtype) for value in values)
        if form != self._form:
            self._recordings.clear()
            self._seen.clear()
            with torch.inference_mode(False):  # they are written with and without it
                pairs = zip(values, self._held, strict=True)
                self._buffers = [torch.empty_like(value) for value, held in pairs if not held]
            self._form = form

    def _places(self, values: Sequence[Tensor]) -> _Key:
        weights = (*self._module._parameters.values(), *self._module._buffers.values())
        held = [value.data_ptr() for value, is_held in zip(values, self._held, strict=True) if is_held]
        return (*held, *(weight.data_ptr() for weight in weights if weight is not None))
