"""Optional dependencies: which extra brings a package, and the error when it is not there."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from fouriercache.errors import MissingExtraError

EXTRA_OF = {
    "onnx": "onnx",
    "onnx_ir": "onnx",
    "onnxscript": "onnx",
    "onnxruntime": "onnx",
    "tensorrt": "gpu",
    "tensorrt_rtx_bindings": "rtx",
}
"""Import name of an optional package -> the extra of ours that installs it."""


def install_line(extra: str) -> str:
    """Return what installs an extra. The package comes as its sources, and no package index has it."""
    return f"pip install '.[{extra}]' in FourierCache's folder"


def import_extra(name: str) -> ModuleType:
    """Import an optional package.

    Raises:
        MissingExtraError: it is not installed; names the extra that brings it.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        extra = EXTRA_OF[name]
        raise MissingExtraError(
            f"{name} is not installed, and this needs it.\n  Install the extra that brings it: {install_line(extra)}."
        ) from error
