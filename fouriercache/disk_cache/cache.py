"""Captures on disk: what one process captured, another finds, if nothing has changed that a graph depends on."""

from __future__ import annotations

import logging
import os
import platform
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy
import sympy
import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from fouriercache.assembly import Assembled
from fouriercache.calls import Call
from fouriercache.disk_cache.entries import UNREADABLE, read_entry, write_entry
from fouriercache.disk_cache.folder import Folder
from fouriercache.disk_cache.objects import Walk
from fouriercache.disk_cache.reasons import NotKeptError

logger = logging.getLogger(__name__)

_SOURCES = ("*.py", "disk_cache/*.py")
"""Our own files that decide what a capture is: an entry made by other ones is another entry."""


@dataclass(frozen=True)
class CaptureCache:
    """A folder of captures; see `fouriercache.optimize`, `cache_dir`.

    Raises:
        CacheFolderError: the folder cannot be made or written to, or others can write to it or to a folder above it.
    """

    path: Path

    def __post_init__(self) -> None:
        Folder(self.path).prepare()

    def place(self, model: nn.Module, call: Call, asked: Sequence[object]) -> Place | None:
        """Return where the capture of `model` for calls like this one is kept; None, said in the log, if it cannot be.

        Args:
            asked: everything else that decides what the capture is.
        """
        started, modules = time.perf_counter(), frozenset(sys.modules)
        try:
            key = _key_of(model, call, asked, modules)
        except NotKeptError as error:
            logger.info("the capture of %s is not kept on disk: %s", type(model).__name__, error)
            return None
        logger.debug("key %s of %s in %.3f s", key, type(model).__name__, time.perf_counter() - started)
        return Place(Folder(self.path), key, model, call, tuple(asked), modules)


@dataclass(frozen=True)
class Place:
    """Where one capture is kept."""

    folder: Folder
    key: str
    model: nn.Module
    call: Call
    asked: tuple[object, ...]
    modules: frozenset[str]

    def read(self) -> Assembled | None:
        """Return what is kept there, with the model's own weights; None when there is nothing, or nothing whole."""
        kept = self.folder.read(self.key)
        if kept is None:
            return None
        try:
            found = read_entry(self.model, *kept)
        except UNREADABLE as error:
            self.folder.warn(self.key, error)
            return None
        logger.info("the capture of %s comes from %s", type(self.model).__name__, self.folder.path)
        return found

    def write(self, made: Assembled, *, has_asked: bool) -> None:
        """Keep a capture, if it holds for every model with this key.

        Args:
            has_asked: whether the model asked for values of tensors in Python, be they weights: the graph holds the
                answers.
        """
        try:
            if has_asked:
                raise NotKeptError("the model asks in Python for values of tensors")
            if _key_of(self.model, self.call, self.asked, self.modules) != self.key:
                raise NotKeptError("the model changed while it ran, or while it was traced")
            text, tensors = write_entry(self.model, made)
        except NotKeptError as error:
            logger.info("the capture of %s is not kept on disk: %s", type(self.model).__name__, error)
            return
        if self.folder.write(self.key, text, tensors):
            logger.info("the capture of %s is kept in %s", type(self.model).__name__, self.folder.path)


def _key_of(model: nn.Module, call: Call, asked: Sequence[object], modules: Collection[str]) -> str:
    """Return the SHA-256 of all that a capture depends on.

    Raises NotKeptError when something of it cannot be compared with another process's.
    """
    modes = [*_get_current_function_mode_stack(), *_get_current_dispatch_mode_stack()]
    if modes:
        raise NotKeptError(f"{type(modes[-1]).__name__} is active, which may change what calls of torch do")
    if torch.nn.modules.module._global_forward_hooks or torch.nn.modules.module._global_forward_pre_hooks:
        raise NotKeptError("there is a forward hook of all modules")
    walk = Walk(model, modules)
    walk.say("sources", *_own_sources())
    walk.say(sys.version, platform.machine(), torch.__version__, torch.version.git_version, numpy.__version__)
    walk.say(sympy.__version__, getattr(sys.modules.get("diffusers"), "__version__", None))
    walk.say(*(f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("DIFFUSERS_")))
    walk.say(torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled())
    walk.say(torch.backends.mha.get_fastpath_enabled(), torch.backends.cpu.get_cpu_capability())
    for kind in sorted({"cpu", *(tensor.device.type for tensor in call.tensors)} - {"meta"}):
        walk.say(kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))
    for device in sorted({str(tensor.device) for tensor in call.tensors if tensor.device.type == "cuda"}):
        walk.say(device, torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device))
    walk.say("call", repr(call.key))
    for path, tensor in zip(call.paths, call.tensors, strict=True):
        if type(tensor) not in (Tensor, nn.Parameter):
            raise NotKeptError(f"the input {path} is a {type(tensor).__name__}")
        walk.say(path, tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device)
    walk.walk(tuple(asked))
    return walk.digest()


@cache
def _own_sources() -> tuple[str, ...]:
    """Return the texts of our own files that decide what a capture is."""
    package = Path(__file__).parents[1]
    return tuple(path.read_text() for pattern in _SOURCES for path in sorted(package.glob(pattern)))
