"""NaN and inf are refused where they appear, before anything of them is kept; on a GPU as soon as they are seen."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from math import isfinite

import torch
from torch import Tensor

from fouriercache.errors import TrajectoryError
from fouriercache.runtime.far import SentTruth, Truth, can_send
from fouriercache.runtime.session import Plan


class FiniteCheck:
    """Looks for NaN and inf in the results of one request's steps.

    On the host the answer is there at once, and a step that has some is refused. On a GPU to ask is to wait for all
    that is enqueued there, so the answer is asked for and looked at when it has come: in a later call, or at the last
    step of a trajectory, which waits.

    Args:
        send: sends a bool on a device to the host.
    """

    def __init__(self, send: Callable[[Tensor], Truth] = SentTruth) -> None:
        self._send = send
        self._sent: deque[tuple[Truth, Plan]] = deque()

    def look(self, results: Sequence[Tensor], sample: Tensor, plan: Plan, *, is_last: bool) -> None:
        """Look at the results of a step.

        Raises:
            TrajectoryError: they are not finite and lie on the host; says whether the sample was. On a GPU, at the last
                step: those of this or an earlier one are not.
        """
        numbers = [result for result in results if result.is_floating_point()]
        far = [tensor.detach() for tensor in numbers if can_send(tensor)]
        if not all(_is_finite(tensor) for tensor in numbers if not can_send(tensor)):
            raise _refused(plan, sample)
        if far:
            flags = [torch.isfinite(tensor).all() for tensor in far]
            self._sent.append((self._send(torch.stack(flags).all() if len(flags) > 1 else flags[0]), plan))
        if is_last and (error := self._next(wait=True)):
            raise error

    def seen(self) -> TrajectoryError | None:
        """Return the error of an earlier step, where the answer has come and is no; waits for none."""
        return self._next(wait=False)

    def clear(self) -> None:
        """Ask no more for what has not come."""
        self._sent.clear()

    def _next(self, *, wait: bool) -> TrajectoryError | None:
        while self._sent and (wait or self._sent[0][0].is_here()):
            truth, plan = self._sent.popleft()
            if not truth.read():
                return _seen_late(plan)
        return None


def _refused(plan: Plan, sample: Tensor) -> TrajectoryError:
    source = "the model's input holds NaN or inf already" if not _is_finite(sample) else (
        "the input is finite: the model overflows here, or cached features were"
    )  # fmt: skip
    return TrajectoryError(
        f"the result of step {plan.position.step} ({plan.mode}) holds NaN or inf; {source}.\n"
        "  It was not cached. Check dtype and weights, or pass check_finite=False to let it through."
    )


def _seen_late(plan: Plan) -> TrajectoryError:
    return TrajectoryError(
        f"the result of step {plan.position.step} ({plan.mode}) holds NaN or inf, in its input or from the model.\n"
        "  On a GPU that is seen only when the answer comes, so this trajectory is dropped: begin it again. Check\n"
        "  latents, dtype and weights, or pass check_finite=False to let it through."
    )


def _is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are. A sum that is finite has no NaN or inf among its terms, and is one pass over them."""
    own = tensor.detach() if tensor.requires_grad else tensor
    total = own.sum() if own.itemsize >= 4 else own.sum(dtype=torch.float32)  # float16 ends at 65504
    return isfinite(total.item()) or bool(torch.isfinite(own).all())
