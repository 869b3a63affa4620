"""How a command ends: its exit code, and which error of the package means which."""

from __future__ import annotations

from fouriercache.errors import (
    CalibrationError,
    GoldenError,
    MethodError,
    ModelSpecError,
    OptimizeError,
    PassError,
    PreconditionError,
    TargetError,
    VerifyError,
)

CHECK_FAILED, BAD_USE, CANNOT_BE_DONE_HERE = 1, 2, 3
"""0 is done."""

_BAD_USE = MethodError | PreconditionError | CalibrationError | GoldenError | ModelSpecError | TargetError


def exit_code(error: OptimizeError) -> int | None:
    """Return the exit code of an error; None for a defect of ours, which keeps its traceback."""
    if isinstance(error, PassError | VerifyError):
        return None
    return BAD_USE if isinstance(error, _BAD_USE) else CANNOT_BE_DONE_HERE
