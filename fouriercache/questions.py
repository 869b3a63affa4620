"""What a model asks of its tensors in Python: `if mask.all()`, `lengths.tolist()`, `x[mask]`.

A graph has no place for such a question. So the answers are recorded while the model runs for real, told again to
torch.export while it traces, and every later call is asked the same questions: a call that answers otherwise is not
served by the graph.
"""

from __future__ import annotations

import copy
import functools
import sys
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy
import torch
from torch import Tensor, fx, nn
from torch._subclasses import FakeTensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

_TO_PYTHON = frozenset(
    {
        Tensor.__bool__, Tensor.__int__, Tensor.__float__, Tensor.__index__, Tensor.item, Tensor.tolist, Tensor.numpy,
        Tensor.__array__, Tensor.is_nonzero, torch.is_nonzero,
    }
)  # fmt: skip
"""Questions whose answer is a Python value."""

_TO_INDICES = frozenset({torch.nonzero, Tensor.nonzero, torch.argwhere, Tensor.argwhere})
"""Questions whose answer is a tensor with as many rows as the values say."""

_BY_INDEX = frozenset({Tensor.__getitem__, Tensor.__setitem__})
_REPEATS = frozenset({torch.repeat_interleave, Tensor.repeat_interleave})


@dataclass(frozen=True)
class Answer:
    """What a tensor held when it was asked: its values, what Python made of them, and the line that asked."""

    values: Tensor
    result: Any
    where: str

    def agrees(self, other: Answer) -> bool:
        """Whether the other tensor held the same."""
        return is_same(self.values, other.values)


class _Listener(TorchFunctionMode, ABC):
    """Sees every question of the code that runs below it; `_ask` answers it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _TO_PYTHON or (func in _TO_INDICES and isinstance(args[0], Tensor)):
            return self._ask(args[0], functools.partial(_apply, func, args[1:], kwargs))
        if func in _BY_INDEX:
            args = (args[0], self._plain_index(args[1], is_read=func is Tensor.__getitem__), *args[2:])
        elif func is torch.arange:
            args = tuple(self._number(value) for value in args)
        elif func in _REPEATS and len(args) > 1 and isinstance(args[1], Tensor):
            return self._repeat(*args, **kwargs)
        return func(*args, **kwargs)

    @abstractmethod
    def _ask(self, tensor: Tensor, make: Callable[[Tensor], Any]) -> Any:
        """What `make(tensor)` is said to be."""

    def _number(self, value: Any) -> Any:
        return self._ask(value, Tensor.item) if isinstance(value, Tensor) else value

    def _plain_index(self, index: Any, *, is_read: bool) -> Any:
        """The index with positions in the place of masks, and numbers in the place of tensors as a slice's bounds.

        A mask that is written through needs no positions where one value goes everywhere, and keeps its form.
        """
        entries = list(index) if isinstance(index, tuple) else [index]
        plain: list[Any] = []
        for entry in entries:
            if isinstance(entry, slice):
                plain.append(slice(*(self._number(bound) for bound in (entry.start, entry.stop, entry.step))))
            elif is_read and isinstance(entry, Tensor) and entry.dtype == torch.bool and entry.ndim > 0:
                plain += self._ask(entry, lambda mask: mask.nonzero(as_tuple=True))
            else:
                plain.append(entry)
        return tuple(plain) if isinstance(index, tuple) or len(plain) > 1 else plain[0]

    def _repeat(self, tensor: Tensor, repeats: Tensor, dim: int | None = None, **_: Any) -> Tensor:
        whole = tensor.flatten() if dim is None else tensor
        axis = 0 if dim is None else dim
        count = whole.shape[axis]
        positions = self._ask(repeats, lambda times: torch.arange(count).repeat_interleave(times.cpu().expand(count)))
        return whole.index_select(axis, positions.to(whole.device))


def _apply(func: Any, args: Any, kwargs: Any, tensor: Tensor) -> Any:
    return func(tensor, *args, **kwargs)


class _Recorder(_Listener):
    """Writes down every answer, by the line that asks."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[tuple[str, int], list[Answer]] = {}

    def _ask(self, tensor: Tensor, make: Callable[[Tensor], Any]) -> Any:
        values = tensor.detach().clone()
        place, where = _asking_line()
        # `numpy()` shares memory with its tensor: what is kept is of the clone, and what the model gets is its own
        self.answers.setdefault(place, []).append(Answer(values, make(values), where))
        return make(tensor)


class _Teller(_Listener):
    """Gives the recorded answers, in the order of each line, and collects the tensors that were asked.

    A question that nobody asked in the run that was recorded is left to torch.export.
    """

    def __init__(self, answers: Mapping[tuple[str, int], Sequence[Answer]]) -> None:
        super().__init__()
        self._left = {place: list(given) for place, given in answers.items()}
        self.asked: list[Tensor] = []
        self.told: list[Answer] = []

    def _ask(self, tensor: Tensor, make: Callable[[Tensor], Any]) -> Any:
        left = self._left.get(_asking_line()[0])
        if not left:
            return make(tensor)
        self.told.append(left.pop(0))
        self.asked.append(tensor.clone())  # what it holds now: the model may write to it later
        result = self.told[-1].result
        return copy.deepcopy(result) if isinstance(result, list | numpy.ndarray) else result


@contextmanager
def _lists_asked_whole(teller: _Teller) -> Iterator[None]:
    """Let `tolist` of a fake tensor be one question: FakeTensor has its own, which asks entry by entry."""
    own: Callable[[Any], Any] = FakeTensor.tolist

    def tolist(tensor: Tensor) -> Any:
        modes = torch.overrides._get_current_function_mode_stack()
        return teller._ask(tensor, own) if modes and modes[-1] is teller else own(tensor)

    setattr(FakeTensor, "tolist", tolist)  # noqa: B010  # mypy would not have a method assigned
    try:
        yield
    finally:
        setattr(FakeTensor, "tolist", own)  # noqa: B010


def _asking_line() -> tuple[tuple[str, int], str]:
    """The nearest line outside this file as (file, number), and in words the nearest one outside torch."""
    frame: FrameType | None = sys._getframe(2)
    place: tuple[str, int] | None = None
    while frame is not None:
        name = frame.f_code.co_filename
        if name != __file__:
            place = place or (name, frame.f_lineno)
            if "/torch/" not in name.replace("\\", "/"):
                return place, f"{name}:{frame.f_lineno} in {frame.f_code.co_name}"
        frame = frame.f_back
    return place or ("", 0), "inside torch"


@dataclass(frozen=True)
class Recording:
    """One run of the model: what it returned, and what it asked on the way."""

    outputs: list[Any]
    answers: Mapping[tuple[str, int], Sequence[Answer]]


def record(model: nn.Module, arguments: Mapping[str, Any], run: Callable[..., list[Any]]) -> Recording:
    """Run the model by `run(model, arguments)`, which returns its output's leaves, and note what it asks.

    Raises:
        Exception: whatever `run` raises.
    """
    recorder = _Recorder()
    with recorder:
        outputs = run(model, arguments)
    return Recording(outputs, recorder.answers)


class Answering:
    """A model that is told the answers of a recording while it is traced, and returns what it was asked besides.

    Attributes:
        module: shares everything with the model; its forward returns (the model's output, the asked tensors).
    """

    def __init__(self, model: nn.Module, recording: Recording) -> None:
        self._answers = recording.answers
        self._told: list[Answer] = []
        self.module = copy.copy(model)
        forward = model.forward

        @functools.wraps(forward)
        def answered(*args: Any, **kwargs: Any) -> Any:
            teller = _Teller(self._answers)
            with teller, _lists_asked_whole(teller):
                output = forward(*args, **kwargs)
            self._told = teller.told
            return output, tuple(teller.asked)

        vars(self.module)["forward"] = answered

    @property
    def told(self) -> tuple[Answer, ...]:
        """The answers that were given in the last run, in the order of the tensors asked."""
        return tuple(self._told)


_MOST_REMEMBERED = 4
"""Sets of tensors whose answers are remembered: the passes of a step each have their own."""


@dataclass
class _Memory:
    """The tensors that were asked lately, by reference and version, and whether they answered alike; replaced whole."""

    entries: tuple[tuple[list[tuple[weakref.ref[Tensor], int]], bool], ...] = ()

    def recall(self, tensors: Sequence[Tensor]) -> bool | None:
        """What these very tensors answered, unchanged since; None when that is not known."""
        for seen, holds in self.entries:
            pairs = zip(seen, tensors, strict=False)
            if len(seen) == len(tensors) and all(old() is new and n == _version(new) for (old, n), new in pairs):
                return holds
        return None

    def note(self, tensors: Sequence[Tensor], holds: bool) -> None:
        """Remember; tensors of torch.inference_mode count no versions and are asked each time."""
        if not any(tensor.is_inference() for tensor in tensors):
            seen = [(weakref.ref(tensor), tensor._version) for tensor in tensors]
            self.entries = ((seen, holds), *self.entries[: _MOST_REMEMBERED - 1])


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version


@dataclass(frozen=True)
class Questions:
    """What must be asked of a call before a graph may serve it.

    Attributes:
        module: flat tensors of the call in, the asked tensors out.
        reads: which of the call's tensors they are computed from.
        answers: what they must hold.
        changing: for each, whether it depends on the latents or the timestep, so may differ from step to step.
    """

    module: fx.GraphModule
    reads: tuple[int, ...]
    answers: tuple[Answer, ...]
    changing: tuple[bool, ...]
    _memory: _Memory = field(default_factory=_Memory, compare=False, repr=False)

    def hold(self, tensors: Sequence[Tensor]) -> bool:
        """Whether a call's tensors answer as those of the capture did.

        Nothing is computed while the tensors that are read are the same objects, unchanged.
        """
        read = [tensors[index] for index in self.reads]
        holds = self._memory.recall(read)
        if holds is None:
            holds = self.other(tensors) is None
            self._memory.note(read, holds)
        return holds

    def other(self, tensors: Sequence[Tensor]) -> int | None:
        """The position of the first answer that the call's tensors do not give; None when they give all."""
        if any(tensor.is_meta for tensor in tensors):
            return None  # a call without values is served for its form alone
        with torch.no_grad():
            found = pytree.tree_leaves(self.module(*tensors))
        for position, (have, answer) in enumerate(zip(found, self.answers, strict=True)):
            if not is_same(have, answer.values):
                return position
        return None

    def agrees(self, other: Questions) -> bool:
        """Whether another capture's questions had the same answers."""
        pairs = zip(self.answers, other.answers, strict=False)
        return len(self.answers) == len(other.answers) and all(a.agrees(b) for a, b in pairs)


def is_same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors, perhaps on different devices, have the same shape and values."""
    return one.shape == other.shape and torch.equal(one, other.to(one.device))
