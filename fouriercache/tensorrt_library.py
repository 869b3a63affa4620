"""TensorRT and TensorRT-RTX as one library: which is installed, and what it offers."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Literal

from fouriercache.errors import EngineError, MissingExtraError
from fouriercache.extras import import_extra, install_line

Flavour = Literal["TensorRT", "TensorRT-RTX"]

MODULES: dict[Flavour, str] = {"TensorRT": "tensorrt", "TensorRT-RTX": "tensorrt_rtx_bindings"}
"""The module of each flavour. NVIDIA's own `tensorrt_rtx` is a thin cover over the bindings, and does without them."""

_FROM: dict[Flavour, tuple[int, int]] = {"TensorRT": (10, 16), "TensorRT-RTX": (1, 7)}
_BELOW: dict[Flavour, int] = {"TensorRT": 12, "TensorRT-RTX": 2}


@dataclass(frozen=True)
class Library:
    """One installed flavour. What the two differ in beyond this is asked of `module` where it matters.

    Attributes:
        module: its Python module, None when it was only described. version: as the module says it, "1.7.1.116".
    """

    flavour: Flavour
    version: str
    module: Any

    @property
    def builds_ahead_of_time(self) -> bool:
        """Whether it builds plans for GPUs that are not there."""
        return hasattr(self.module, "ComputeCapability")

    def __str__(self) -> str:
        return f"{self.flavour} {self.version}"


def find_library(flavour: Flavour | None = None) -> Library:
    """Return the flavour asked for, or the one that is installed; TensorRT when both are.

    Raises:
        MissingExtraError: it is not installed; names the extra that brings it.
        EngineError: it is installed in a version that this package does not know.
    """
    wanted = [flavour] if flavour else [known for known, name in MODULES.items() if find_spec(name) is not None]
    if not wanted:
        raise MissingExtraError(
            "neither TensorRT nor TensorRT-RTX is installed, and this needs one of them.\n"
            f"  Plans for RTX GPUs, built on any machine: {install_line('rtx')}.\n"
            f"  Plans for the GPU of this machine, data-center GPUs among them: {install_line('gpu')}."
        )
    return describe_library(wanted[0], import_extra(MODULES[wanted[0]]))


def describe_library(flavour: Flavour, module: ModuleType) -> Library:
    """Return what `module` is.

    Raises:
        EngineError: a version that this package does not know.
    """
    version = str(module.__version__)
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if len(numbers) < 2 or numbers < _FROM[flavour] or numbers[0] >= _BELOW[flavour]:
        first = ".".join(map(str, _FROM[flavour]))
        raise EngineError(
            f"{flavour} {version} is installed, which this version of fouriercache does not know.\n"
            f"  Install one from {first} on, below {_BELOW[flavour]}."
        )
    return Library(flavour, version, module)
