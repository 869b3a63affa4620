"""The one file that holds the weights of all graphs of a bundle, each tensor once."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

from fouriercache.bundle.manifest import WEIGHTS

if TYPE_CHECKING:
    import onnx_ir as ir

_ALIGNMENT = 4096
"""Bytes; engines map the file into memory, which goes page by page."""

_SMALL = 64
"""Bytes; small tensors are aligned to this."""

_SHAPE = 1024
"""A constant of whole numbers of fewer bytes stays in its graph: shapes and axes, which engines must know before they
load weights."""


class WeightFile:
    """Writes tensors behind each other and tells where they are; a tensor with the bytes of an earlier one is that one.

    Attributes:
        tensors: how many were written. bytes: how long the file is. asked: the bytes that graphs refer to, in all.
    """

    def __init__(self, folder: Path) -> None:
        self.tensors = self.bytes = self.asked = 0
        self._file: BinaryIO = (folder / WEIGHTS).open("wb")
        self._places: dict[bytes, tuple[int, int]] = {}

    def __enter__(self) -> WeightFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        self._file.close()

    def take(self, model: ir.Model) -> None:
        """Move the weights of a model to the file, and let its initializers refer to it.

        Raises OSError when the file cannot be written.
        """
        import onnx_ir

        for name, value in model.graph.initializers.items():
            tensor = value.const_value
            assert tensor is not None
            if _is_structure(tensor):
                continue
            offset, length = self._place(tensor.tobytes())
            value.const_value = onnx_ir.ExternalTensor(
                WEIGHTS, offset, length, tensor.dtype, shape=onnx_ir.Shape(tensor.shape.numpy()), name=name
            )

    def _place(self, content: bytes) -> tuple[int, int]:
        self.asked += len(content)
        key = hashlib.sha256(content).digest()
        if key not in self._places:
            self._file.write(b"\0" * (-self.bytes % _ALIGNMENT if len(content) >= _ALIGNMENT else -self.bytes % _SMALL))
            offset = self._file.tell()
            self._file.write(content)
            self._places[key] = offset, len(content)
            self.tensors += 1
            self.bytes = offset + len(content)
        return self._places[key]


def _is_structure(tensor: ir.TensorProtocol) -> bool:
    """Whether it is a shape, an axis or a scalar, and no weight."""
    return tensor.size <= 1 or (not tensor.dtype.is_floating_point() and tensor.nbytes < _SHAPE)
