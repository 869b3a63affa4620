"""Runs the worker that builds a plan: hands it the job, listens, ends it when it is overdue, and says how it ended."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from fouriercache.errors import LoweringError
from fouriercache.export.tensorrt import worker
from fouriercache.export.tensorrt.refusals import refusal
from fouriercache.tensorrt_library import Library

Notice = Callable[[str, float], None]
"""Called with what the builder does and what part of the whole is done, 0 to 1."""

_TAIL = 20
"""Lines of the log that are shown when a build ended badly."""
_SIZES = {
    "weight_bytes": re.compile(r"Total Weights Memory: (\d+) bytes"),
    "activation_bytes": re.compile(r"Total Activation Memory: (\d+) bytes"),
    "scratch_bytes": re.compile(r"Max Scratch Memory: (\d+) bytes"),
}


def run_worker(job: Mapping[str, Any], library: Library, onnx: Path, timeout: float, notice: Notice) -> dict[str, Any]:
    """Let a worker do the job (`worker.py` says what one is); return what it says of the plan, and the sizes it logs.

    The worker is gone when this returns or raises, and ends itself when this process does.

    Raises LoweringError as `build_plan` does.
    """
    log: deque[str] = deque(maxlen=_TAIL)
    found: dict[str, Any] = {}
    end: dict[str, Any] | None = None
    overdue = threading.Event()
    pipe = subprocess.PIPE
    command = [sys.executable, "-P", worker.__file__]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, encoding="utf-8") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        listener = threading.Thread(target=log.extend, args=(process.stderr,), daemon=True)
        listener.start()
        alarm = threading.Timer(timeout, _end, (process, overdue))
        alarm.start()
        try:
            _hand_over(process.stdin, job)
            for event in _events(process.stdout, log):
                kind = event.pop("event")
                if kind == "log":
                    log.append(f"{event['severity']}: {event['text']}")
                    found |= _sizes(event["text"])
                elif kind == "progress":
                    notice(event["phase"], event["share"])
                else:
                    end = event
            process.wait()
        finally:
            alarm.cancel()
            process.kill()  # whatever is raised here, Ctrl-C too, nothing goes on building
        listener.join()
    tail = "\n".join(["  the end of its log:", *(f"    {line.rstrip()}" for line in log)])
    if overdue.is_set():
        raise LoweringError(
            f"building a plan of {onnx.name} took longer than {timeout:g} seconds and was ended.\n"
            f"  Give it more time, or a lower level.\n{tail}"
        )
    if end is None:
        raise LoweringError(
            f"{library} did not survive building a plan of {onnx.name}: {_way_it_ended(process.returncode)}.\n{tail}"
        )
    if "why" in end:
        raise refusal(end, library, onnx, tail)
    return found | end


def _hand_over(stdin: IO[str], job: Mapping[str, Any]) -> None:
    """Write the job and leave the pipe open: the worker lives as long as it is."""
    try:
        stdin.write(json.dumps(job) + "\n")
        stdin.flush()
    except BrokenPipeError:
        return  # it is gone already; its log and how it ended say why


def _events(stdout: IO[str], log: deque[str]) -> Iterator[dict[str, Any]]:
    """Yield what the worker says until it ends."""
    for line in stdout:
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            log.append(line)  # a line that the end of the process cut short
            continue
        yield event


def _sizes(text: str) -> dict[str, int]:
    return {name: int(size[1]) for name, pattern in _SIZES.items() if (size := pattern.search(text))}


def _end(process: subprocess.Popen[str], overdue: threading.Event) -> None:
    overdue.set()
    process.kill()


def _way_it_ended(code: int) -> str:
    if code >= 0:
        return f"its process ended with code {code}"
    known = {number.value: number.name for number in signal.Signals}
    name = known.get(-code, f"signal {-code}")
    hint = "; often that is a machine short of memory" if name == "SIGKILL" else ""
    return f"its process was ended by {name}{hint}"
