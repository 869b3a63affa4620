"""What this machine has: versions, extras, backends, threads. The `doctor` command and the report show it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import torch

from fouriercache.extras import install_line

EXTRAS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "onnx": ("onnx", "onnx-ir", "onnxscript", "onnxruntime"),
        "gpu": ("onnx", "onnx-ir", "onnxscript", "onnxruntime-gpu", "tensorrt"),
        "rtx": ("onnx", "onnx-ir", "onnxscript", "tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu13-libs"),
    }
)
"""Optional dependencies by the name of the extra that brings them, as in pyproject.toml."""

_PACKAGES = ("fouriercache", "torch", "diffusers", "safetensors", "numpy", "matplotlib", "typer", "rich", "jinja2")
"""What is always needed, ourselves first."""

_OLDEST_TORCH = (2, 11)

State = Literal["good", "missing", "bad"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `missing` is something optional that is not there, `bad` something that must be mended."""

    group: str
    name: str
    value: str
    state: State = "good"
    advice: str = ""


def find_version(distribution: str) -> str | None:
    """Return the installed version of a distribution, or None when it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def describe_environment() -> dict[str, str]:
    """Return what a reader needs to judge a measurement: versions, machine, threads."""
    absent = {"fouriercache": "run from its sources"}
    versions = {name: find_version(name) or absent.get(name, "not installed") for name in _PACKAGES[:4]}
    return {
        **versions,
        "Python": platform.python_version(),
        "System": f"{platform.system()} {platform.machine()}",
        "Processor": _describe_processor(),
        "Threads": str(torch.get_num_threads()),
    }


def _describe_processor() -> str:
    """Return the processor's name as the system tells it."""
    table = Path("/proc/cpuinfo")
    if table.is_file():
        for line in table.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def examine() -> tuple[Finding, ...]:
    """Look at versions, extras, backends and the machine. Changes nothing and imports no extra."""
    return (*_versions(), *_extras(), *_backends(), *_machine())


def _versions() -> list[Finding]:
    findings = []
    for name in _PACKAGES:
        version = find_version(name)
        if version is None and name == "fouriercache":
            findings.append(Finding("Versions", name, "run from its sources"))
        elif version is None:
            findings.append(Finding("Versions", name, "not installed", "bad", f"pip install {name}"))
        else:
            findings.append(Finding("Versions", name, version))
    major, minor = (int(part) for part in torch.__version__.split(".")[:2])
    if (major, minor) < _OLDEST_TORCH:
        needed = ".".join(str(part) for part in _OLDEST_TORCH)
        findings.append(
            Finding("Versions", "torch release", torch.__version__, "bad", f'pip install "torch>={needed}"')
        )
    return findings


def _extras() -> list[Finding]:
    findings = []
    for extra, packages in EXTRAS.items():
        versions = {name: find_version(name) for name in packages}
        absent = [name for name, version in versions.items() if version is None]
        if absent:
            advice = install_line(extra)
            findings.append(Finding("Extras", extra, f"without {', '.join(absent)}", "missing", advice))
        else:
            findings.append(Finding("Extras", extra, ", ".join(f"{name} {versions[name]}" for name in packages)))
    if find_version("onnxruntime") and find_version("onnxruntime-gpu"):
        advice = "pip uninstall onnxruntime onnxruntime-gpu, then install one of the extras `onnx` and `gpu`"
        value = "onnxruntime and onnxruntime-gpu are both installed, and are one Python module"
        findings.append(Finding("Extras", "conflict", value, "bad", advice))
    return findings


def _backends() -> list[Finding]:
    findings = [Finding("Backends", "eager", "usable")]
    if torch.cuda.is_available():
        if find_spec("triton") is None:
            findings.append(Finding("Backends", "inductor", "no triton for the GPU", "missing", "pip install triton"))
        else:
            findings.append(Finding("Backends", "inductor", "usable, with triton"))
        return findings
    compilers = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++", "cl"]
    found = next((name for name in compilers if shutil.which(name)), None)
    if found is None:
        advice = "install g++ or clang++, or set CXX"
        findings.append(Finding("Backends", "inductor", "no C++ compiler on the path", "missing", advice))
    else:
        findings.append(Finding("Backends", "inductor", f"usable, with {found}"))
    return findings


def _machine() -> list[Finding]:
    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    count = os.cpu_count() or 1
    return [
        Finding("Machine", "system", f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"),
        Finding("Machine", "processor", f"{_describe_processor()}, {count} logical core{'' if count == 1 else 's'}"),
        Finding("Machine", "torch threads", str(torch.get_num_threads())),
        Finding("Machine", "CUDA devices", ", ".join(devices) or "none"),
    ]


def peak_memory() -> int | None:
    """Return the most bytes that this process has had; None where that is not told.

    macOS counts in them, other systems in KiB, and Windows does not have the call.
    """
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
