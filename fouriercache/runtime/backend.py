"""Backends: what turns a program into something that runs."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from operator import is_
from types import MethodType
from typing import Any, Protocol
from weakref import WeakSet

import torch
from torch import Tensor, fx, nn
from torch.utils.weak import WeakIdKeyDictionary

from fouriercache.errors import CaptureError, LoweringError, MethodError, TrajectoryError
from fouriercache.extras import import_extra
from fouriercache.live_weights import LiveWeights
from fouriercache.program import Input, Program
from fouriercache.quick_calls import shorten
from fouriercache.reused_memory import write_in_place
from fouriercache.runtime.cuda_graphs import RecordedProgram, Recorder, Turns, find_recorder

_Runner = Callable[..., tuple[Tensor, ...]]


class Backend(Protocol):
    """A way to run a program: `compile` a graph module, flat tensors in, a flat tuple out.

    `fuses` says whether calls that read the same tensor are run together, and read it once.
    """

    name: str
    fuses: bool

    def compile(self, module: fx.GraphModule, inputs: Sequence[Input]) -> _Runner:
        """Return what runs `module`, which takes `inputs`."""
        ...


class _EagerProgram:
    """A graph's own body, and beside it the one that writes in place, made when it is first wanted."""

    def __init__(self, module: fx.GraphModule) -> None:
        self._module = module
        self._in_place: _Runner | None = None

    def __call__(self, *values: Tensor) -> tuple[Tensor, ...]:
        if torch.is_grad_enabled():
            run: _Runner = self._module.forward
        else:
            run = self._in_place or self._make()
        return run(*values)

    def _make(self) -> _Runner:
        graph = copy.deepcopy(self._module.graph)
        write_in_place(graph)
        shorten(graph)
        # another body of the same module, which reads the same weights
        run = MethodType(type(fx.GraphModule(self._module, graph, class_name="Step")).forward, self._module)
        self._in_place = run
        return run


class _EagerBackend:
    """Runs the generated Python code of the graph, op by op. The reference for every other backend.

    Where no gradients are asked for, calls write over what is not read again.
    """

    name = "eager"
    fuses = False

    def compile(self, module: fx.GraphModule, inputs: Sequence[Input]) -> _Runner:  # noqa: ARG002  # all are alike
        return _EagerProgram(module)


class _InductorBackend:
    """Runs the graph through `torch.compile`; each mode is one graph without breaks."""

    name = "inductor"
    fuses = True

    def compile(self, module: fx.GraphModule, inputs: Sequence[Input]) -> _Runner:  # noqa: ARG002  # all are alike
        compiled: Any = torch.compile(module, fullgraph=True, dynamic=None)
        runner: _Runner = compiled
        return runner


class _CudaGraphsBackend:
    """Runs what another backend makes of the graph, recorded in CUDA graphs.

    Args:
        inner: the other backend. recorder: the GPU; torch's current one if it is not given.

    Raises LoweringError where there is no GPU.
    """

    fuses = False  # what several steps share would be copied into each recording, and out of it

    def __init__(self, name: str, inner: Backend, recorder: Recorder | None = None) -> None:
        self.name, self._inner = name, inner
        self._turns = Turns(recorder or find_recorder())

    def compile(self, module: fx.GraphModule, inputs: Sequence[Input]) -> _Runner:
        return RecordedProgram(module, self._inner.compile(module, inputs), inputs, self._turns)

    def __reduce__(self) -> tuple[Any, ...]:
        return backend_from_name, (self.name,)  # what was recorded stays where it was


_BACKENDS: dict[str, Callable[[], Backend]] = {
    "eager": _EagerBackend,
    "inductor": _InductorBackend,
    "cudagraphs": lambda: _CudaGraphsBackend("cudagraphs", _EagerBackend()),
    "inductor+cudagraphs": lambda: _CudaGraphsBackend("inductor+cudagraphs", _InductorBackend()),
}

_NEEDS = {"onnxruntime": ("onnx", "onnxscript", "onnxruntime"), "tensorrt": ()}
"""Engines that run bundles, and the optional packages each needs; which TensorRT it is, a bundle's plans say."""


def backend_from_name(name: str) -> Backend:
    """Return the backend called `name`.

    Raises:
        MethodError: there is none of that name.
        MissingExtraError, LoweringError: it is an engine, which runs what was exported, or there is no GPU for it.
    """
    if name in _NEEDS:
        for package in _NEEDS[name]:
            import_extra(package)
        raise LoweringError(
            f"the backend {name!r} runs what was exported: an engine has weights of its own, the model's are live.\n"
            f"  Export with fc.export(fast, folder), and run fc.load(folder, backend={name!r}).\n"
            f"  To run the model itself, use one of: {', '.join(_BACKENDS)}."
        )
    if name not in _BACKENDS:
        raise MethodError(f"unknown backend {name!r}.\n  Use one of: {', '.join(_BACKENDS)}.")
    return _BACKENDS[name]()


_PROGRAMS = WeakIdKeyDictionary()
"""The programs that are bound to each model."""
_LOCK = threading.Lock()


class LiveProgram:
    """A program on a backend, bound to the live weights of the user's model.

    The module holds the very tensors of the model. A weight that the model has replaced by another tensor since is
    bound anew before each run, so that it takes effect; weights changed in place need nothing.
    """

    def __init__(self, program: Program, model: nn.Module, backend: Backend) -> None:
        self.inputs = program.inputs
        self.outputs = tuple(output.name for output in program.outputs)
        self._module = replace(program, owner=None).module()  # bound when it first runs
        read = [str(node.target) for node in program.graph.find_nodes(op="get_attr")]
        sources = {name: program.sources[name] for name in read if name in program.sources}
        self._names, self._weights = tuple(sources), LiveWeights(model, list(sources.values()))
        self._bound: list[Tensor] = []
        self._lock = threading.Lock()
        self._run = backend.compile(self._module, program.inputs)
        with _LOCK:
            self._others: WeakSet[LiveProgram] = _PROGRAMS.setdefault(model, WeakSet())
            self._others.add(self)

    def __call__(self, values: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Run on one tensor for each of `inputs`, in their order."""
        weights = self._weights.get()
        if len(self._bound) != len(weights):
            self._bind(weights)
        elif not all(map(is_, weights, self._bound)):
            self._bind_all()
        return tuple(self._run(*values))

    def version(self) -> tuple[int, ...]:
        """Changes whenever a weight does; see `LiveWeights.version`."""
        return self._weights.version()

    def _bind_all(self) -> None:
        """Bind what the model's programs have bound anew, or one that seldom runs would hold what was replaced."""
        with _LOCK:
            programs = [program for program in self._others if program._bound]
        for program in programs:
            with suppress(CaptureError, TrajectoryError):  # it may be of another structure than the model has now
                program._bind(program._weights.get())

    def _bind(self, weights: list[Tensor]) -> None:
        parameters: dict[str, Any] = self._module._parameters
        with self._lock:  # or two threads could leave one's weights in the module and the other's in the list
            for name, live in zip(self._names, weights, strict=True):
                (parameters if name in parameters else self._module._buffers)[name] = live
            self._bound = weights
