"""NaN and inf are refused where they appear, before anything of them is kept; on a GPU as soon as they are seen."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from math import isfinite

import torch
from torch import Tensor

from fouriercache.errors import TrajectoryError
from fouriercache.runtime.far import Answer, SentAnswer, can_send
from fouriercache.runtime.session import Plan


class FiniteCheck:
    """Looks for NaN and inf in the results of one request's steps.

    On the host the answer is there at once, and a step that has some is refused. On a GPU to ask is to wait for all
    that is enqueued there, so the answer is looked at when it has come.

    Args:
        is_on: whether it looks at all. send: sends a number on a device to the host.
    """

    def __init__(self, is_on: bool = True, send: Callable[[Tensor], Answer] = SentAnswer) -> None:
        self._is_on, self._send = is_on, send
        self._sent: deque[tuple[Answer, Plan]] = deque()

    def look(self, results: Sequence[Tensor], sample: Tensor, plan: Plan) -> None:
        """Look at the results of a step that lie on the host; ask for the answer about the others.

        Raises:
            TrajectoryError: they are not finite; says whether the sample was.
        """
        for result in results if self._is_on else ():
            if not result.is_floating_point() or not result.numel():
                continue
            if can_send(result):
                # the largest of all sizes: NaN and inf stay what they are
                self._sent.append((self._send(torch.linalg.vector_norm(result.detach(), torch.inf)), plan))
            elif not _is_finite(result):
                raise _refused(plan, sample)

    def answered(self, *, wait: bool = False) -> TrajectoryError | None:
        """Return the error of a step that was looked at on a GPU, None while nothing speaks against any.

        Once it is returned, the answers of later steps are not asked for any more.

        Args:
            wait: for all answers; else those that have come are enough.
        """
        while self._sent and (wait or self._sent[0][0].is_here()):
            answer, plan = self._sent.popleft()
            if not isfinite(answer.read()):
                self.clear()
                return _seen_late(plan)
        return None

    def clear(self) -> None:
        """Ask no more for what has not come."""
        self._sent.clear()


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
        "  On a GPU that is seen when the answer comes: its trajectory is dropped, and the next call begins another.\n"
        "  Check latents, dtype and weights, or pass check_finite=False to let it through."
    )


def _is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are. A sum that is finite has no NaN or inf among its terms, and is one pass over them."""
    own = tensor.detach() if tensor.requires_grad else tensor
    total = own.sum() if own.itemsize >= 4 else own.sum(dtype=torch.float32)  # float16 ends at 65504
    return isfinite(total.item()) or bool(torch.isfinite(own).all())
