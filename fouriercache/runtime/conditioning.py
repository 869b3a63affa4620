"""What depends on timestep and conditioning alone: computed once for a pair, or for a whole trajectory in one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fouriercache.runtime.far import is_far, send
from fouriercache.runtime.parts import Executable
from fouriercache.verification import rounding

_Stamp = tuple[float, ...]

_SMALL = 1024
"""Numbers in a tensor on the CPU that are compared by value: it costs little, and sees what leaves no other trace."""

_RELATED = 0.5
"""The least cosine of two samples of one run."""

LARGEST_BATCH = 256 * 2**20
"""Bytes of hoisted values that are kept for a trajectory; above, every step computes its own."""

MOST_SINGLE = 2
"""Timesteps whose values are kept where each step computes its own: solvers of second order ask for one twice."""


@dataclass
class Remembered:
    """Tensors as they were seen: by identity and version, and by value where these do not tell.

    Tensors made in torch.inference_mode count no versions, and what is written through `.data` or a NumPy array that
    shares the memory leaves none: of the first, and of small ones on the CPU, a copy is kept.
    """

    tensors: tuple[Tensor, ...]
    versions: tuple[int | None, ...]

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Remembered:
        kept: list[Tensor] = []
        versions: list[int | None] = []
        for tensor in tensors:
            is_copied = _is_copied(tensor)
            kept.append(tensor.detach().clone() if is_copied else tensor)
            versions.append(None if is_copied else tensor._version)
        return cls(tuple(kept), tuple(versions))

    def copies(self) -> list[Tensor]:
        """The tensors that are held for this alone; the others are the caller's own."""
        return [tensor for tensor, version in zip(self.tensors, self.versions, strict=True) if version is None]

    def equals(self, tensors: Sequence[Tensor]) -> bool:
        """Whether `tensors` have the values the remembered ones had when they were seen."""
        if len(tensors) != len(self.tensors):
            return False
        for old, version, new in zip(self.tensors, self.versions, tensors, strict=True):
            if version is not None and old._version != version:
                return False  # changed in place since: what it was is not known
            if old is new:
                continue
            if old.shape != new.shape or old.dtype != new.dtype or old.device != new.device:
                return False
            if not torch.equal(old, new):
                return False
        return True

    def stands_for(self, tensors: Sequence[Tensor]) -> bool:
        """Whether tensors of equal values need not be remembered anew: these are the same, or copies of no owner."""
        pairs = zip(self.tensors, self.versions, tensors, strict=True)
        return all(version is None or old is new for old, version, new in pairs)

    def may_become(self, tensors: Sequence[Tensor]) -> bool:
        """Whether `tensors` may be the remembered ones some way on in the same run: no surely other run's.

        On a run from noise n to data x of equal norms, at right angles, samples are cos(a) x + sin(a) n, so the cosine
        of two of them is that of the angle between: at least a half unless two thirds of the way lie between. It is
        about 0 for samples of two runs. What was overwritten in place since is not known, and passes.
        """
        dot = old_norm = new_norm = 0.0
        for old, version, new in zip(self.tensors, self.versions, tensors, strict=True):
            if old is new or old.shape != new.shape or (version is not None and old._version != version):
                return True
            before, now = old.detach().double().flatten(), new.detach().double().flatten()
            dot += float(before @ now)
            old_norm += float(before @ before)
            new_norm += float(now @ now)
        return not dot < _RELATED * (old_norm * new_norm) ** 0.5


def _is_copied(tensor: Tensor) -> bool:
    return tensor.is_inference() or (not is_far(tensor) and tensor.numel() <= _SMALL)


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of the tensors' storages, every storage counted once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


@dataclass
class Hoisted:
    """The hoisted values of one step mode for one conditioning.

    `context` holds the context part's results; `batch` the timed part's by timestep, as one batch gave them; `single`
    those that steps computed alone, the newest last, at most MOST_SINGLE. `sums` has what was made of kept features
    for steps to come, by step and timestep, and `made_of` says of the features of which steps, by what, and by which
    version of its weights. Everything is dropped when the conditioning or a weight changes, and when a trajectory
    begins.
    """

    weights: tuple[int, ...] = ()
    context: Mapping[str, Tensor] | None = None
    batch: dict[_Stamp, Mapping[str, Tensor]] = field(default_factory=dict)
    single: dict[_Stamp, Mapping[str, Tensor]] = field(default_factory=dict)
    sums: dict[tuple[int, _Stamp], Mapping[str, Tensor]] = field(default_factory=dict)
    made_of: tuple[tuple[int, ...], Executable, tuple[int, ...]] | None = None

    def find(self, stamp: _Stamp) -> Mapping[str, Tensor] | None:
        """The timed part's results for a timestep, if they are kept."""
        return self.batch.get(stamp, self.single.get(stamp))

    def keep(self, stamp: _Stamp, values: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Keep and return what a step computed alone."""
        self.single[stamp] = values
        for oldest in list(self.single)[:-MOST_SINGLE]:
            del self.single[oldest]
        return values

    def tensors(self) -> list[Tensor]:
        """Every value that is held."""
        by_step = (self.context or {}, *self.batch.values(), *self.single.values(), *self.sums.values())
        return [tensor for values in by_step for tensor in values.values()]


class Conditioning:
    """Runs the context and timed parts of one mode, and keeps what they gave.

    Args:
        context, timed: the two parts.
        rows: the timed part's inputs that have a row for each sample; None when it cannot serve many timesteps in one
            batch.
    """

    def __init__(self, context: Executable, timed: Executable, rows: frozenset[str] | None) -> None:
        self._context, self._timed = context, timed
        self._rows = rows
        self._is_checked = False  # whether a batch has been compared with a step alone
        self._row_bytes: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the mode has nothing to hoist."""
        return not self._context.outputs and not self._timed.outputs

    def values(
        self,
        kept: Hoisted,
        named: Mapping[str, Tensor],
        stamp_name: str,
        stamp: _Stamp,
        ahead: Callable[[], Sequence[float]],
    ) -> dict[str, Tensor]:
        """Return every hoisted value of a step by name.

        With gradients enabled nothing is kept: a graph serves one backward pass, and one step.

        Args:
            kept: read and filled.
            named: the call's inputs by name.
            stamp_name: the name of the timestep input. stamp: its values.
            ahead: asked, where the stamp is not among those kept, for the timesteps of the trajectory's steps that this
                mode will serve, to be computed in one batch.
        """
        if torch.is_grad_enabled():
            context = _run(self._context, named)
            return {**context, **_run(self._timed, {**named, **_as_inputs(context)})}
        weights = self._context.version() + self._timed.version()
        if weights != kept.weights:
            kept.weights, kept.context = weights, None
            for by_stamp in (kept.batch, kept.single, kept.sums):
                by_stamp.clear()
        if kept.context is None:
            kept.context = _run(self._context, named)
        found = kept.find(stamp)
        if found is None and self._rows is not None and len(stamp) == 1 and (timesteps := ahead()):
            self._run_batch(kept, named, stamp_name, stamp, timesteps, self._rows)
            found = kept.find(stamp)
        if found is None:
            found = kept.keep(stamp, _run(self._timed, {**named, **_as_inputs(kept.context)}))
        return {**kept.context, **found}

    def known(self, kept: Hoisted, stamp: _Stamp) -> dict[str, Tensor] | None:
        """Return every hoisted value of a step by name, if they are kept; None if they would have to be computed."""
        if not self._timed.outputs:
            return dict(kept.context or {})
        found = kept.find(stamp)
        return None if found is None else {**(kept.context or {}), **found}

    def _run_batch(
        self,
        kept: Hoisted,
        named: Mapping[str, Tensor],
        stamp_name: str,
        mine: _Stamp,
        ahead: Sequence[float],
        with_rows: frozenset[str],
    ) -> None:
        """Fill `kept.batch` anew, for all timesteps of `ahead`; each row must come out as it would alone.

        The first batch of all is compared with a step that ran alone.
        """
        assert kept.context is not None
        given = {**named, **_as_inputs(kept.context)}
        sample = given[stamp_name]
        batch = sample.shape[0]
        if self._row_bytes is not None and self._row_bytes * batch * len(ahead) > LARGEST_BATCH:
            return
        rows = torch.tensor(list(ahead), dtype=torch.float64, device="cpu").to(sample.dtype)
        stamps = [(value,) for value in rows.tolist()]
        if mine not in stamps:  # the list was rounded otherwise than the step's own timestep
            return
        single = None if self._is_checked else _run(self._timed, given)
        if single is not None:
            self._row_bytes = sum(value.numel() * value.element_size() for value in single.values()) // batch
        if self._row_bytes is None or self._row_bytes * batch * len(ahead) > LARGEST_BATCH:
            return
        wide = dict(given)
        for name in with_rows:
            wide[name] = given[name].repeat(len(ahead), *[1] * (given[name].ndim - 1))
        wide[stamp_name] = send(rows.repeat_interleave(batch), sample.device)
        parts = {name: value.unflatten(0, (len(ahead), batch)) for name, value in _run(self._timed, wide).items()}
        if single is not None:
            if not _agree({n: p[stamps.index(mine)] for n, p in parts.items()}, single):
                self._rows = None  # rows are not independent in this model: each step computes its own
                return
            self._is_checked = True
        kept.batch = {
            stamp: {name: part[position] for name, part in parts.items()} for position, stamp in enumerate(stamps)
        }


def _run(part: Executable, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not part.outputs:
        return {}
    results = part([named[wanted.name] for wanted in part.inputs])
    return dict(zip(part.outputs, results, strict=True))


def _as_inputs(context: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"hoisted_{name}": value for name, value in context.items()}


def _agree(batched: Mapping[str, Tensor], single: Mapping[str, Tensor]) -> bool:
    """Whether a row of the batch is what the step gives alone, up to the rounding of another matrix shape."""
    for name, value in single.items():
        tolerance = rounding(value.dtype, 256) if value.is_floating_point() else 0.0
        scale = float(value.abs().amax()) if value.numel() else 0.0
        if float((batched[name].double() - value.double()).abs().amax()) > tolerance * max(scale, 1.0):
            return False
    return True
