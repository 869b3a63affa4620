"""The folder of entries: whose it may be, how a file is written and checked."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fouriercache.errors import CacheFolderError
from fouriercache.fingerprints import bytes_of
from fouriercache.paths import check_private, make_private
from fouriercache.strict_files import read_tensors, write_tensors

logger = logging.getLogger(__name__)

_TEXT = "entry"
"""The tensor that holds the JSON's bytes; metadata of a safetensors file would be escaped twice."""


@dataclass(frozen=True)
class Folder:
    """A folder of entries, one file for each key."""

    path: Path

    def prepare(self) -> None:
        """Make the folder, for this user alone, if it is not there.

        Raises:
            CacheFolderError: it cannot be made or written to, or others can write to it or to a folder above it.
        """
        try:
            make_private(self.path)
        except OSError as error:
            raise CacheFolderError(
                f"the cache folder {self.path} cannot be made: {error.strerror or error}.\n"
                "  Pass cache_dir= a folder that you may write to, or None to keep no captures on disk."
            ) from error
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise CacheFolderError(
                f"the cache folder {self.path} cannot be written to.\n"
                "  Pass cache_dir= a folder of yours, or change its permissions."
            )
        check_private(self.path, "graphs of your models", "pass cache_dir= a folder of yours")

    def read(self, key: str) -> tuple[str, dict[str, Tensor]] | None:
        """Return an entry's JSON and tensors; None when there is none, or, with a warning, none that is whole."""
        path = self._file(key)
        try:
            about, tensors = read_tensors(path)
            text = tensors.pop(_TEXT).numpy().tobytes().decode()
            if about != {"key": key, "sha256": _digest(text, tensors)}:
                raise ValueError("its contents are not what was written")
        except FileNotFoundError:
            return None
        except (OSError, LookupError, TypeError, ValueError) as error:
            self.warn(key, error)
            return None
        return text, tensors

    def warn(self, key: str, error: Exception) -> None:
        """Say that an entry cannot be used."""
        logger.warning("the cached capture %s is damaged and will be replaced: %s", self._file(key), error)

    def write(self, key: str, text: str, tensors: Mapping[str, Tensor]) -> bool:
        """Write an entry, whole or not at all; return whether that was possible, and warn when not."""
        held = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
        try:
            write_tensors(self._file(key), {"key": key, "sha256": _digest(text, tensors)}, {**tensors, _TEXT: held})
        except OSError as error:
            logger.warning("the capture could not be kept in %s: %s", self.path, error)
            return False
        return True

    def _file(self, key: str) -> Path:
        return self.path / f"{key}.safetensors"


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(bytes_of(tensor))
    return digest.hexdigest()
