"""Numbers that lie on a GPU, read so that the host need not wait for what was enqueued there."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

_LONGEST_LIST = 4096
"""Numbers in a list of timesteps that is read as a whole; what is a view of more is read by itself."""


def is_far(tensor: Tensor) -> bool:
    """Whether the host waits for a device when it reads a number of the tensor."""
    return tensor.device.type != "cpu"


def can_send(tensor: Tensor) -> bool:
    """Whether a number of the tensor can be on its way to the host while the host goes on."""
    return tensor.is_cuda


class Truth(Protocol):
    """A truth on its way to the host."""

    def is_here(self) -> bool:
        """Whether it can be read without waiting."""

    def read(self) -> bool:
        """Return it, once it is here."""


class SentTruth:
    """A bool on a CUDA device, copied to the host behind all that is enqueued now."""

    def __init__(self, flag: Tensor) -> None:
        self._host = torch.empty((), dtype=torch.bool, pin_memory=True)
        self._host.copy_(flag, non_blocking=True)
        self._event = torch.cuda.Event()
        self._event.record(torch.cuda.current_stream(flag.device))

    def is_here(self) -> bool:
        return bool(self._event.query())

    def read(self) -> bool:
        self._event.synchronize()
        return bool(self._host)


class Stamps:
    """Reads the timesteps of one request's calls.

    A sampler's list of timesteps is one tensor, and each step is given a view of it. Where the list lies on a GPU it is
    read as a whole when a view of it is first given, and again when it has been written into; a timestep that was
    computed is read by itself, each time that another is given.
    """

    def __init__(self) -> None:
        self._list: tuple[Tensor, int] | None = None
        self._numbers: tuple[float, ...] = ()

    def read(self, stamp: Tensor) -> tuple[float, ...]:
        """Return the timestep's values, in order."""
        if not is_far(stamp):
            return _numbers_of(stamp)
        whole = stamp if stamp._base is None else stamp._base
        is_known = not whole.is_inference() and whole.dtype == stamp.dtype and whole.is_contiguous()
        if not is_known or whole.numel() > _LONGEST_LIST or any(map(_moves, stamp.shape, stamp.stride())):
            return _numbers_of(stamp)
        if self._list is None or self._list[0] is not whole or self._list[1] != whole._version:
            self._list, self._numbers = (whole, whole._version), _numbers_of(whole)
        return (self._numbers[stamp.storage_offset() - whole.storage_offset()],) * stamp.numel()


def _moves(size: int, stride: int) -> bool:
    """Whether a dimension shows more than one number."""
    return size > 1 and stride != 0


def _numbers_of(tensor: Tensor) -> tuple[float, ...]:
    values = tensor.tolist() if tensor.ndim == 1 else tensor.reshape(-1).tolist()
    return tuple(map(float, values))
