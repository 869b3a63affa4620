"""A value in fewer bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_args

from ..checks import check_choice
from .base import Slots, Storage, StoredType


@dataclass(frozen=True)
class Quantized:
    """Keep a value in a smaller dtype: "int8" with one float32 scale for each token, "bfloat16" or "float16".

    int8 is symmetric: a token x is kept as `q = round(x / s)` with `s = max|x| / 127`, so each entry is off by at most
    s / 2. A float16 overflows above 65504; what does is infinite when it is read, and the step's result is refused.
    Values whose own dtype is no wider are kept as they are; the report names them.

    `slots` says which features are encoded: "all", or the "older" ones only, see `LowPass`.

    Raises MethodError when a field is none of its choices.
    """

    name: ClassVar[str] = "quantized"
    needs_grid: ClassVar[bool] = False

    dtype: StoredType = "int8"
    slots: Slots = "all"

    def __post_init__(self) -> None:
        check_choice("Quantized", "dtype", self.dtype, get_args(StoredType))
        check_choice("Quantized", "slots", self.slots, get_args(Slots))

    @property
    def storage(self) -> Storage:
        """The value in `dtype`."""
        return Storage(dtype=self.dtype, slots=self.slots)
