"""The captures of one model: which serves a call, what was seen of each, and how many are kept."""

from __future__ import annotations

import itertools
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from operator import attrgetter
from typing import Any

from torch import nn
from torch.utils import _pytree as pytree

from fouriercache.calls import Call, changing_constant, has_values
from fouriercache.errors import CaptureError, OptimizeError, RecaptureWarning
from fouriercache.program import NoMatch
from fouriercache.runtime.live import LiveStepper
from fouriercache.steps import Steps
from fouriercache.tracing import first_line

logger = logging.getLogger(__name__)

MOST_KEPT = 16
"""Captures of one model that are kept: forms of input (shape, dtype, device, constants) in use at a time.

The one used longest ago is dropped first; a call of its form captures again.
"""

_MANY_VALUES = 3
"""Captures that differ in one number alone, after which another for one more value is warned of."""

_MOST_FORMS = 256
"""Forms of call of which is remembered what serves them; when there are more, all are searched for anew."""

_UNKNOWN = NoMatch("not compared with the model")


class Steppers:
    """The captures of one model, the newest first, and for which sizes each was seen to compute what the model does.

    `find` needs no lock, since the tuple is replaced as a whole; `serve`, `capture` and `clear` are for one thread at a
    time.

    Args:
        model: whose calls they serve.
        build: captures it for calls like the given one; with a reason, for this batch size alone.

    Attributes:
        runs: how often the model was run to compare a capture with it at other sizes.
    """

    def __init__(self, model: nn.Module, build: Callable[[Mapping[str, Any], NoMatch | None], LiveStepper]) -> None:
        self._model, self._build, self.runs = model, build, 0
        self._kept: tuple[LiveStepper, ...] = ()
        self._ticks = itertools.count()
        self._verified: dict[LiveStepper, dict[tuple[int, ...], NoMatch | None]] = {}
        self._first: dict[LiveStepper, tuple[Call, Mapping[str, Any]]] = {}
        self._found: dict[tuple[object, ...], LiveStepper] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[LiveStepper]:
        return iter(self._kept)

    def find(self, call: Call) -> LiveStepper | None:
        """Return what serves the call and was verified at its sizes."""
        known, form = self._found, (call.key, call.form)  # another thread may put an empty one in its place
        stepper = known.get(form)
        if stepper is None:
            stepper = self._search(call)
            if stepper is None:
                return None
            if stepper.questions is None:  # what serves this call serves all of its form
                if len(known) >= _MOST_FORMS:
                    known.clear()
                known[form] = stepper
        stepper.used = next(self._ticks)
        return stepper

    def _search(self, call: Call) -> LiveStepper | None:
        for stepper in self._kept:
            sizes = stepper.dynamic_sizes(call)
            if sizes is not None and self._verified.get(stepper, {}).get(sizes, _UNKNOWN) is None:
                return stepper
        return None

    def serve(self, call: Call, arguments: Mapping[str, Any]) -> LiveStepper:
        """Return what serves the call: verified at its sizes now, or captured.

        A capture for any batch is compared with the model at the first call of each size, which costs that call a run
        of the model. Where they differ, this size gets a capture of its own.

        Raises:
            CaptureError: the model cannot be captured.
            Exception: the model itself refuses these inputs.
        """
        found = self.find(call)  # another thread may have been faster
        if found is not None:
            return found
        refusal = None
        for stepper in self._kept:
            sizes = stepper.dynamic_sizes(call)
            if sizes is None:
                continue
            found_wrong = self._verify(stepper, call, arguments, sizes)
            if found_wrong is None or found_wrong is _UNKNOWN:
                return stepper  # where there was nothing to compare, the next call is asked again
            refusal = found_wrong
        return self.capture(call, arguments, refusal)

    def _verify(
        self, stepper: LiveStepper, call: Call, arguments: Mapping[str, Any], sizes: tuple[int, ...]
    ) -> NoMatch | None:
        """Say what was found when a capture was compared with the model at these sizes, now or earlier."""
        verified = self._verified[stepper]
        if sizes not in verified:
            if not has_values(arguments):
                return _UNKNOWN
            self.runs += 1
            try:
                if not stepper.agrees(self._model, arguments, call):
                    return _UNKNOWN
                verified[sizes] = None
                if not has_values(self._first[stepper][1]):
                    self._first[stepper] = _first_sample(call, arguments, stepper.steps)
            except CaptureError as error:
                verified[sizes] = NoMatch(f"no dynamic batch: {first_line(error)}")
                logger.info("the capture for any batch is refused for sizes %s: %s", sizes, error)
        return verified[sizes]

    def least_batch(self, steps: Steps) -> int:
        """Return the smallest batch for which a capture is right; see `OptimizedModule.least_batch`."""
        (stepper,) = (kept for kept in self._kept if kept.steps is steps)
        call, arguments = self._first[stepper]
        sizes = stepper.dynamic_sizes(call)
        try:
            return 1 if sizes is not None and self._verify(stepper, call, arguments, sizes) is None else 2
        except OptimizeError:
            raise
        except Exception as error:  # noqa: BLE001  # the model's own: an index among the inputs may point behind the end
            logger.info("not known to be right for one sample, which the model itself refuses: %s", first_line(error))
            return 2

    def capture(self, call: Call, arguments: Mapping[str, Any], fixed: NoMatch | None = None) -> LiveStepper:
        """Capture for calls like this one, whatever is there already; with `fixed`, for this batch size alone."""
        self._warn_of_numbers(call)
        self._check_questions(call)
        stepper = self._build(arguments, fixed)
        sizes = stepper.dynamic_sizes(call)
        is_verified = stepper.steps.capture.is_verified and sizes is not None
        self._verified[stepper] = {sizes: None} if is_verified and sizes is not None else {}
        stepper.used = next(self._ticks)
        self._first[stepper] = _first_sample(call, arguments, stepper.steps)
        oldest = sorted(self._kept, key=attrgetter("used"))[: max(0, len(self._kept) + 1 - MOST_KEPT)]
        self._kept = (stepper, *(kept for kept in self._kept if kept not in oldest))
        self._found = {}
        for dropped in oldest:
            logger.info("dropped the capture used longest ago, of %d: %s", MOST_KEPT, dropped.steps.capture.shapes)
            self._verified.pop(dropped, None)
            self._first.pop(dropped, None)
        return stepper

    def clear(self) -> None:
        """Forget all."""
        self._kept, self._verified, self._first, self._found = (), {}, {}, {}

    def _warn_of_numbers(self, call: Call) -> None:
        found = changing_constant(call.key, [kept.steps.capture.key for kept in self._kept])
        if found is not None and len(found[1]) >= _MANY_VALUES:
            warnings.warn(
                f"argument {found[0]} of {type(self._model).__name__} has had the values {', '.join(found[1])}, and "
                "each was captured anew: a graph holds a Python number as a constant.\n"
                "  Pass it as a tensor if it changes from step to step.",
                RecaptureWarning,
                stacklevel=2,
            )

    def _check_questions(self, call: Call) -> None:
        """Raise CaptureError when the model decides in each step anew which code to run; warn when prompts do."""
        found = [asked for kept in self._kept if (asked := kept.steps.capture.differing_question(call)) is not None]
        steps = [where for where, is_changing in found if is_changing]
        if len(steps) >= _MANY_VALUES:
            raise CaptureError(
                f"{type(self._model).__name__} asks in Python for values that change from step to step, so one graph "
                f"cannot serve a trajectory.\n  where: {steps[0]}\n"
                "  Write that line with tensors alone (torch.where, a dense mixture of experts), or do not cache it."
            )
        if len(found) >= _MANY_VALUES:
            warnings.warn(
                f"{type(self._model).__name__} asks in Python for values of its inputs, and was captured anew for each "
                f"of {len(found) + 1} answers.\n  where: {found[0][0]}\n"
                "  Pass inputs that answer alike: prompts padded to one length, masks of one form.",
                RecaptureWarning,
                stacklevel=2,
            )


def _first_sample(call: Call, arguments: Mapping[str, Any], steps: Steps) -> tuple[Call, Mapping[str, Any]]:
    """The call with the first row alone of every tensor that has a row for each sample."""
    pairs = zip(call.tensors, steps.capture.shapes, strict=False)
    first = {id(tensor): tensor[:1].detach().clone() for tensor, shape in pairs if shape and isinstance(shape[0], str)}
    tensors = tuple(first.get(id(tensor), tensor) for tensor in call.tensors)
    return replace(call, tensors=tensors), pytree.tree_map(lambda leaf: first.get(id(leaf), leaf), dict(arguments))
