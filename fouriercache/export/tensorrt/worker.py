"""Builds one plan, in a process of its own: a build may crash, hang or run out of memory, and its caller must not.

Run by path with `python -P`, and so imports nothing of ours: what it needs is loaded in a tenth of a second. The job is
one line of JSON on stdin:

    {"module", "onnx", "plan", "capability" (or null), "profiles": [[least, typical, most], ...],
     "sizes": {name: [least, typical, most]}, "level"}

Events are lines of JSON on stdout: {"event": "log" | "progress" | "refused" | "built", ...}. What libraries write to
stdout goes to stderr. When stdin closes, whoever asked is gone, and so is the worker.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from importlib import import_module
from typing import Any

_MOST_PROGRESS_EVENTS_A_SECOND = 20


class Phases:
    """How far a build is: phases within phases, each with a number of steps."""

    def __init__(self) -> None:
        self._phases: dict[str, _Phase] = {}
        self._most = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins, inside a step of `parent` if it has one."""
        self._phases[name] = _Phase(parent, max(steps, 1))

    def step(self, name: str, step: int) -> None:
        """Step number `step`, from 0, of a phase is done."""
        if name in self._phases:
            self._phases[name].done = min(step + 1, self._phases[name].steps)

    def finish(self, name: str) -> None:
        """A phase is over."""
        phase = self._phases.pop(name, None)
        if phase is not None and phase.parent is None:
            self._most = 1.0

    @property
    def share(self) -> float:
        """What part of the whole is done, 0 to 1; never less than it was."""
        for name, phase in self._phases.items():
            if phase.parent is None:
                self._most = max(self._most, self._share_of(name))
        return self._most

    def _share_of(self, name: str) -> float:
        inner = [self._share_of(other) for other, phase in self._phases.items() if phase.parent == name]
        phase = self._phases[name]
        return min(1.0, (phase.done + max(inner, default=0.0)) / phase.steps)


class _Phase:
    def __init__(self, parent: str | None, steps: int) -> None:
        self.parent, self.steps, self.done = parent, steps, 0


class _RefusedError(Exception):
    """The build ends here; what there is to say is in `facts`."""

    def __init__(self, **facts: Any) -> None:
        super().__init__(facts["why"])
        self.facts = facts


class _Events:
    """Lines of JSON to whoever asked. The library calls from threads of its own."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, event: str, **facts: Any) -> None:
        with self._lock:
            self._stream.write(json.dumps({"event": event, **facts}) + "\n")
            self._stream.flush()


def build(job: dict[str, Any], events: _Events) -> dict[str, Any]:
    """Build the plan and write it; return what is to be known of it."""
    trt = import_module(job["module"])
    log = _log(trt, events)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(job["onnx"]):
        raise _RefusedError(why="parser", errors=_errors(parser) + _unsupported(trt, builder, log, job["onnx"]))
    config = builder.create_builder_config()
    monitor = _monitor(trt, events)
    config.progress_monitor = monitor
    config.builder_optimization_level = job["level"]
    if job["capability"] is not None:
        config.num_compute_capabilities = 1
        if not config.set_compute_capability(getattr(trt.ComputeCapability, job["capability"]), 0):
            raise _RefusedError(why="capability")
    profiles = _add_profiles(builder, network, config, job["profiles"], job["sizes"])
    inputs = [_tensor(network.get_input(position)) for position in range(network.num_inputs)]
    outputs = [_tensor(network.get_output(position)) for position in range(network.num_outputs)]
    began = time.monotonic()
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _RefusedError(why="builder")
    seconds = time.monotonic() - began
    view = memoryview(plan)
    try:
        with open(job["plan"], "wb") as file:
            file.write(view)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _RefusedError(why="write", plan=job["plan"], text=error.strerror, bytes=view.nbytes) from error
    return {
        "bytes": view.nbytes,
        "sha256": hashlib.sha256(view).hexdigest(),
        "profiles": profiles,
        "inputs": inputs,
        "outputs": outputs,
        "layers": network.num_layers,
        "seconds": seconds,
    }


def _add_profiles(
    builder: Any, network: Any, config: Any, batches: list[list[int]], sizes: dict[str, list[int]]
) -> list[list[int]]:
    """Give the open sizes their ranges: the batch those of `batches`, one each profile, others those they have by name.

    Returns the batches that hold, none for a network whose batch is fixed.
    """
    given = [network.get_input(position) for position in range(network.num_inputs)]
    names = {tensor.name: _open_sizes(tensor) for tensor in given}
    found = [(tensor, position, name) for tensor in given for position, name in names[tensor.name].items()]
    unknown = [(tensor, position, name) for tensor, position, name in found if name not in sizes]
    if not found:
        return []
    firsts = {name for _, position, name in unknown if position == 0}
    if len(firsts) > 1 or any(name not in firsts for _, _, name in unknown):
        places = sorted({f"{tensor.name}: {tuple(tensor.shape)}" for tensor, _, _ in unknown})
        raise _RefusedError(why="sizes", names=sorted({name for _, _, name in unknown}), places=places)
    batches = batches if unknown else batches[:1]
    for batch in batches:
        profile = builder.create_optimization_profile()
        for tensor in given:
            if names[tensor.name]:
                shapes = [
                    [
                        sizes.get(names[tensor.name][position], batch)[end] if size == -1 else size
                        for position, size in enumerate(tensor.shape)
                    ]
                    for end in range(3)
                ]
                profile.set_shape(tensor.name, *shapes)
        config.add_optimization_profile(profile)
    return batches if unknown else []


def _open_sizes(tensor: Any) -> dict[int, str]:
    """The axes whose size the file leaves open, and the names it gives them."""
    return {
        position: tensor.get_dimension_name(position) or f"axis {position} of {tensor.name}"
        for position, size in enumerate(tensor.shape)
        if size == -1
    }


def _tensor(tensor: Any) -> dict[str, Any]:
    return {"name": tensor.name, "shape": list(tensor.shape), "dtype": tensor.dtype.name}


def _errors(parser: Any) -> list[dict[str, Any]]:
    found = [parser.get_error(position) for position in range(parser.num_errors)]
    return [
        {"code": e.code().name, "cause": e.desc(), "node": e.node_name(), "op": e.node_operator(), "index": e.node()}
        for e in found
    ]


def _unsupported(trt: Any, builder: Any, log: Any, path: str) -> list[dict[str, Any]]:
    """What else the parser would not take: `parse` stops at the first."""
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    with open(path, "rb") as file:
        parser.supports_model_v2(file.read(), path)
    return _errors(parser)


def _log(trt: Any, events: _Events) -> Any:
    """A logger in Python. An error recorder would be the richer form; in Python it ends the process (1.7.1)."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity.value <= trt.ILogger.Severity.INFO.value:
                events.send("log", severity=severity.name, text=message)

    return Log()


def _monitor(trt: Any, events: _Events) -> Any:
    phases, lock = Phases(), threading.Lock()
    last = [0.0]

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            with lock:
                phases.start(name, parent, steps)

        def phase_finish(self, name: str) -> None:
            with lock:
                phases.finish(name)

        def step_complete(self, name: str, step: int) -> bool:
            with lock:
                phases.step(name, step)
                now, share = time.monotonic(), phases.share
                is_due = now - last[0] > 1 / _MOST_PROGRESS_EVENTS_A_SECOND
                last[0] = now if is_due else last[0]
            if is_due:
                events.send("progress", share=share, phase=name)
            return True

    return Monitor()


def _leave_when_nobody_asks() -> None:
    sys.stdin.read()
    os._exit(70)


def main() -> None:
    """Read the job, build, and say how it went."""
    events = _Events(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_leave_when_nobody_asks, daemon=True).start()
    try:
        events.send("built", **build(job, events))
    except _RefusedError as refused:
        events.send("refused", **refused.facts)


if __name__ == "__main__":
    main()
