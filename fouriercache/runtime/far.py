"""Numbers that lie on a GPU, read so that the host waits as seldom as it can."""

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


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Move a tensor from the host to a device, without waiting where what is sent is copied aside first."""
    return tensor.to(device, non_blocking=device.type == "cuda")


class Answer(Protocol):
    """A number on its way to the host."""

    def is_here(self) -> bool:
        """Whether it can be read without waiting."""

    def read(self) -> float:
        """Return it, once it is here."""


class SentAnswer:
    """A number on a CUDA device, copied to the host behind all that is enqueued now."""

    def __init__(self, number: Tensor) -> None:
        self._host = torch.empty((), dtype=number.dtype, device="cpu", pin_memory=True)
        self._host.copy_(number, non_blocking=True)
        self._event = torch.cuda.Event()
        self._event.record(torch.cuda.current_stream(number.device))

    def is_here(self) -> bool:
        return bool(self._event.query())

    def read(self) -> float:
        self._event.synchronize()
        return float(self._host)


class Stamps:
    """Reads the timesteps of one request's calls, and those that are to come.

    A sampler's list of timesteps is one tensor, and each step is given a view of it. Where the list lies on a GPU it is
    read as a whole when a view of it is first given, and again when it has been written into by an operation that
    counts; what is written through `.data`, or by a recorded CUDA graph, is not seen. A timestep that is no view of a
    list is read by itself, in each call, and tells nothing of others.
    """

    def __init__(self) -> None:
        self._list: tuple[Tensor, int] | None = None
        self._numbers: tuple[float, ...] = ()

    def read(self, stamp: Tensor) -> tuple[float, ...]:
        """Return the timestep's values, in order."""
        found = _place_in_list(stamp) if is_far(stamp) else None
        if found is None:
            return _numbers_of(stamp)
        whole, at = found
        return (self._numbers_in(whole)[at],) * stamp.numel()

    def coming(self, stamp: Tensor) -> tuple[float, ...]:
        """Return the list that the timestep is a view of, from its own value to the end; () if it is one of none."""
        found = _place_in_list(stamp)
        return () if found is None else self._numbers_in(found[0])[found[1] :]

    def _numbers_in(self, whole: Tensor) -> tuple[float, ...]:
        if not is_far(whole):  # which costs nothing, and sees what leaves no other trace
            return _numbers_of(whole)
        if self._list is None or self._list[0] is not whole or self._list[1] != whole._version:
            self._list, self._numbers = (whole, whole._version), _numbers_of(whole)
        return self._numbers


def _place_in_list(stamp: Tensor) -> tuple[Tensor, int] | None:
    """The list that a timestep is a view of, and which of its numbers it shows; None if it is no such view."""
    whole = stamp._base
    if whole is None or whole.is_inference() or not _is_list(whole) or whole.dtype != stamp.dtype:
        return None
    at = int(stamp.storage_offset()) - int(whole.storage_offset())
    if any(map(_moves, stamp.shape, stamp.stride())) or not stamp.numel() or not 0 <= at < whole.numel():
        return None
    return whole, at


def _is_list(tensor: Tensor) -> bool:
    return 1 < tensor.numel() <= _LONGEST_LIST and tensor.is_contiguous()


def _moves(size: int, stride: int) -> bool:
    """Whether a dimension shows more than one number."""
    return size > 1 and stride != 0


def _numbers_of(tensor: Tensor) -> tuple[float, ...]:
    values = tensor.tolist() if tensor.ndim == 1 else tensor.reshape(-1).tolist()
    return tuple(map(float, values))
