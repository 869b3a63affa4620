"""A plan as an engine: checked against what its manifest says, deserialised, and asked what it takes and gives."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fouriercache.errors import EngineError
from fouriercache.runtime.tensorrt.device import Device
from fouriercache.tensorrt_library import Library

_DTYPES = {
    "FLOAT": torch.float32,
    "HALF": torch.float16,
    "BF16": torch.bfloat16,
    "FP8": torch.float8_e4m3fn,
    "INT64": torch.int64,
    "INT32": torch.int32,
    "INT8": torch.int8,
    "UINT8": torch.uint8,
    "BOOL": torch.bool,
}
_LOG = 12
"""Lines of the library's log that an error shows."""


@dataclass(frozen=True)
class PlanFile:
    """A plan, and what a manifest that is trusted says of it.

    Attributes:
        sha256: of the file, in hexadecimal; a plan is code, so only bytes that someone vouched for are run.
        library, version: what built it, "TensorRT-RTX" and "1.7.1.116". capability: the GPU it was built for, "sm89".
    """

    path: Path
    sha256: str
    library: str
    version: str
    capability: str


@dataclass(frozen=True)
class EngineTensor:
    """An input or output of an engine; -1 in its shape is open. `ranges`: for an input, (least, most) by profile."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    ranges: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = ()


@dataclass(frozen=True)
class Engine:
    """A deserialised plan.

    Attributes:
        handle: the library's engine. library: that made it. log: the end of the library's log.
        inputs, outputs: by name. profiles: how many ranges of batch sizes it has.
        keeps: what must live as long as the engine does.
    """

    handle: Any
    library: Library
    log: deque[str]
    inputs: Mapping[str, EngineTensor]
    outputs: Mapping[str, EngineTensor]
    profiles: int
    keeps: Sequence[Any]


def load_engine(plan: PlanFile, library: Library, device: Device) -> Engine:
    """Deserialise a plan on `device`.

    Raises:
        EngineError: it was built by another library or version or for another GPU, its bytes are not those the manifest
            vouches for, or the library refuses it; says which.
    """
    _check_origin(plan, library, device)
    data = _read(plan)
    trt, log = library.module, deque[str](maxlen=_LOG)
    logger = _logger(trt, log)
    runtime = trt.Runtime(logger)
    _check_validity(trt, runtime, data, plan, log)
    handle = runtime.deserialize_cuda_engine(data)
    if handle is None:
        raise EngineError(f"{library} refuses {plan.path.name}.\n  where: {plan.path}\n{shown(log)}")
    tensors = [_describe(trt, handle, handle.get_tensor_name(index), plan) for index in range(handle.num_io_tensors)]
    is_input = {t.name: handle.get_tensor_mode(t.name) == trt.TensorIOMode.INPUT for t in tensors}
    return Engine(
        handle,
        library,
        log,
        {tensor.name: tensor for tensor in tensors if is_input[tensor.name]},
        {tensor.name: tensor for tensor in tensors if not is_input[tensor.name]},
        handle.num_optimization_profiles,
        (runtime, logger),
    )


def shown(log: Sequence[str]) -> str:
    """The end of the library's log, as lines of an error."""
    return "\n".join(["  the end of its log:", *(f"    {line}" for line in log)])


def _check_origin(plan: PlanFile, library: Library, device: Device) -> None:
    if (plan.library, plan.version) != (library.flavour, library.version):
        raise EngineError(
            f"{plan.path.name} was built by {plan.library} {plan.version}, and {library} is installed: a plan runs on "
            f"the version that built it.\n  where: {plan.path}\n"
            f"  Install {plan.library} {plan.version}, or export again with {library}."
        )
    here = device.capability()
    if plan.capability != here:
        raise EngineError(
            f"{plan.path.name} was built for {plan.capability}, and this GPU is {here}.\n  where: {plan.path}\n"
            f"  Export with targets=['tensorrt:{here}'], or ['tensorrt:current'] on this machine."
        )


def _read(plan: PlanFile) -> bytes:
    """The bytes that will run: what was hashed is what is handed to the library."""
    try:
        data = plan.path.read_bytes()
    except OSError as error:
        raise EngineError(f"the plan cannot be read: {error.strerror}.\n  where: {plan.path}") from error
    if hashlib.sha256(data).hexdigest() != plan.sha256:
        raise EngineError(
            f"{plan.path.name} is not the plan that its manifest vouches for: it was cut short, changed or replaced.\n"
            f"  where: {plan.path}\n  A plan is code, so it is not run. Copy the bundle again, or export again."
        )
    return data


def _check_validity(trt: Any, runtime: Any, data: bytes, plan: PlanFile, log: Sequence[str]) -> None:
    """Ask the library what it thinks of the plan; only TensorRT-RTX has an answer."""
    if not hasattr(runtime, "get_engine_validity"):
        return
    validity, bits = runtime.get_engine_validity(data)
    if validity == trt.EngineValidity.INVALID:
        known = trt.EngineInvalidityDiagnostics.__members__
        reasons = [name for name, member in known.items() if int(member) & int(bits)]
        raise EngineError(
            f"{plan.path.name} cannot run on this machine: {', '.join(reasons) or 'for a reason it does not name'}.\n"
            f"  where: {plan.path}\n{shown(log)}"
        )


def _describe(trt: Any, handle: Any, name: str, plan: PlanFile) -> EngineTensor:
    if handle.get_tensor_location(name) != trt.TensorLocation.DEVICE:
        raise EngineError(
            f"{plan.path.name} wants {name} in the host's memory; plans of this package have none such.\n"
            f"  where: {plan.path}"
        )
    dtype = _DTYPES.get(handle.get_tensor_dtype(name).name)
    if dtype is None:
        raise EngineError(
            f"{plan.path.name} has {name} in {handle.get_tensor_dtype(name).name}, which torch has not.\n"
            f"  where: {plan.path}"
        )
    ranges: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    if handle.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
        for profile in range(handle.num_optimization_profiles):
            least, _, most = handle.get_tensor_profile_shape(name, profile)
            ranges.append((tuple(least), tuple(most)))
    return EngineTensor(name, tuple(handle.get_tensor_shape(name)), dtype, tuple(ranges))


def _logger(trt: Any, log: deque[str]) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity.value <= trt.ILogger.Severity.WARNING.value:
                log.append(f"{severity.name}: {message}")

    return Log()
