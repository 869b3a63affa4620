"""Whether a captured graph computes what the model computes: both are run on one call, and their outputs compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from fouriercache.errors import CaptureError
from fouriercache.gates import gate_of
from fouriercache.live_weights import with_weights
from fouriercache.program import Program

_ADVICE = (
    "  torch.export traced another path than the model takes: look for Python branches on tensor values or state that "
    "changes from call to call."
)


def run_model(model: nn.Module, arguments: Mapping[str, Any]) -> list[Any]:
    """Return the leaves of what the model itself gives, without gradients.

    Raises:
        Exception: whatever the model raises on these inputs, with a note that it was the model.
    """
    try:
        with gate_of(model), torch.no_grad():
            return pytree.tree_leaves(model(**arguments))
    except Exception as error:
        error.add_note(f"raised by {type(model).__name__} itself on these inputs, not by its capture")
        raise


def run_program(program: Program, tensors: Sequence[Tensor]) -> tuple[Any, ...]:
    """Run a program's graph call by call: for a single run, to compile it takes longer."""
    root = nn.Module()
    for name, value in with_weights(program.owner, program.attributes, program.sources).items():
        setattr(root, name, value)
    interpreter = fx.Interpreter(root, graph=program.graph)
    return cast(tuple[Any, ...], interpreter.run(*tensors, enable_io_processing=False))


def compare_outputs(model: nn.Module, want: Sequence[Any], have: Sequence[Any]) -> bool:
    """Compare the leaves of a graph's outputs with the model's.

    What is not finite must stand at the same places and be equal there; finite values may differ by `rounding`, 64
    units in the last place of the largest.

    Returns:
        Whether there was anything finite to compare.

    Raises:
        CaptureError: the outputs differ, with the size of the difference.
    """
    is_compared = False
    if len(want) != len(have):
        raise _disagreement(model, f"it returns {len(have)} values where the model returns {len(want)}")
    for position, (a, b) in enumerate(zip(want, have, strict=True)):
        if not isinstance(a, Tensor):
            if a != b:
                raise _disagreement(model, f"output {position} is {b!r} where the model returns {a!r}")
            continue
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            sizes = f"{b.dtype} {list(b.shape)} where the model returns {a.dtype} {list(a.shape)}"
            raise _disagreement(model, f"output {position} is {sizes}")
        if not a.is_floating_point() and not a.is_complex():
            if not torch.equal(a, b):
                raise _disagreement(model, f"output {position} differs")
            is_compared = True
            continue
        finite = a.isfinite()
        if not torch.equal(finite, b.isfinite()) or not torch.equal(*(_special(t, finite) for t in (a, b))):
            raise _disagreement(model, f"output {position} holds NaN or inf at other places than the model's")
        if bool(finite.any()):
            is_compared = True
            _compare_finite(model, position, a[finite], b[finite])
    return is_compared


def rounding(dtype: torch.dtype, units: int) -> float:
    """The relative difference that is taken for rounding: `units` in the last place, in half precision at most 8.

    There 64 units are half of the value, and no check at all.
    """
    eps = torch.finfo(dtype).eps
    return eps * (min(units, 8) if eps > 1e-4 else units)


def _special(tensor: Tensor, finite: Tensor) -> Tensor:
    """1 for inf, -1 for -inf, 2 for NaN, in the order they stand in."""
    rest = torch.view_as_real(tensor[~finite]) if tensor.is_complex() else tensor[~finite]
    return torch.where(rest.isnan(), 2.0, rest.isposinf().float() - rest.isneginf().float())


def _compare_finite(model: nn.Module, position: int, a: Tensor, b: Tensor) -> None:
    if torch.equal(a, b):
        return
    scale, difference = a.abs().amax().item(), _wide(a).sub(_wide(b)).abs().amax().item()
    if not difference <= rounding(a.dtype, 64) * max(scale, 1e-6):
        raise _disagreement(
            model, f"output {position} differs by {difference:.3g} where the largest value is {scale:.3g}"
        )


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)


def _disagreement(model: nn.Module, what: str) -> CaptureError:
    training = [name for name, module in model.named_modules() if module.training]
    todo = f"  In training mode are {', '.join(training[:3])}: call model.eval() first." if training else _ADVICE
    return CaptureError(
        f"the captured graph of {type(model).__name__} does not compute what the model computes: {what}.\n{todo}"
    )
