"""The low spatial frequencies of a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_args

from ..checks import check_choice, check_number
from ..spectral import Basis
from .base import Slots, Storage, StoredType


@dataclass(frozen=True)
class LowPass:
    """Keep the lowest `keep` of a value's coefficients on its token grid, by a truncated DCT-II or real DFT.

    The basis "frame_dct" is the DCT-II of each frame of a video by itself, which keeps every frame. It is that of a
    predictor's bands, too: with `LowPass(1.0, "frame_dct")` bands are those of frames, not of space and time.

    What is kept is a box: with d axes longer than 1, each axis of size n keeps n * keep**(1/d) of its coefficients,
    rounded to the nearest whole number, at least one (DFT: to the nearest odd one, the mean and pairs of cosine and
    sine). LowPass(1.0) keeps everything and changes nothing but the rounding. Values whose tokens are not on the grid,
    such as text, are kept as they are; the report names them.

    `slots` says which features are encoded: "all", or the "older" ones only. A newest feature that is kept as it is
    costs a little memory for its encoded form, which is made when it is computed and read once it is older. `dtype`
    rounds the coefficients, as `Quantized` does.

    Raises MethodError when `keep` is not a number above 0 and at most 1, or another field is none of its choices.
    """

    name: ClassVar[str] = "low_pass"
    needs_grid: ClassVar[bool] = True

    keep: float
    basis: Basis = "dct"
    slots: Slots = "all"
    dtype: StoredType | None = None

    def __post_init__(self) -> None:
        check_number(
            "LowPass", "keep", self.keep, above=0.0, most=1.0, advice="0.25 keeps one in four coefficients, 1.0 all."
        )
        check_choice("LowPass", "basis", self.basis, get_args(Basis))
        check_choice("LowPass", "slots", self.slots, get_args(Slots))
        if self.dtype is not None:
            check_choice("LowPass", "dtype", self.dtype, get_args(StoredType))

    @property
    def storage(self) -> Storage:
        """Coefficients on the token grid."""
        return Storage(self.basis, float(self.keep), self.dtype, self.slots)
