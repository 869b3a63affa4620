"""NaN and inf are refused where they appear, before anything of them is kept."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import torch
from torch import Tensor

from fouriercache.errors import TrajectoryError
from fouriercache.runtime.session import Plan


def check_finite(results: Sequence[Tensor], sample: Tensor, plan: Plan) -> None:
    """Raise TrajectoryError when a result is not finite; says whether the sample was."""
    for tensor in results:
        if tensor.is_floating_point() and not _is_finite(tensor):
            source = "the model's input holds NaN or inf already" if not _is_finite(sample) else (
                "the input is finite: the model overflows here, or cached features were"
            )  # fmt: skip
            raise TrajectoryError(
                f"the result of step {plan.position.step} ({plan.mode}) holds NaN or inf; {source}.\n"
                "  It was not cached. Check dtype and weights, or pass check_finite=False to let it through."
            )


def _is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are. A sum that is finite has no NaN or inf among its terms, and is one pass over them."""
    own = tensor.detach() if tensor.requires_grad else tensor
    total = own.sum() if own.itemsize >= 4 else own.sum(dtype=torch.float32)  # float16 ends at 65504
    return isfinite(total.item()) or bool(torch.isfinite(own).all())
