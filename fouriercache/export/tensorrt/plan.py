"""What a plan is built with, and what is known of one that was built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from fouriercache.errors import TargetError

_LARGEST = 2**31 - 1
"""Sizes are 32 bits in a plan, and TensorRT cuts off what a larger one has beyond."""


@dataclass(frozen=True)
class Profile:
    """Batch sizes that a plan serves, from `least` to `most`; it is tuned for `typical`.

    Raises TargetError when a size is no whole number of at least 1, is too large for a plan, or they are not in order.
    """

    least: int = 1
    typical: int = 2
    most: int = 8

    def __post_init__(self) -> None:
        sizes = self.sizes()
        if any(type(size) is not int or not 1 <= size <= _LARGEST for size in sizes) or sorted(sizes) != list(sizes):
            raise TargetError(
                f"a profile needs whole batch sizes from 1 to {_LARGEST}, least <= typical <= most, got {self!r}.\n"
                "  For example Profile(least=1, typical=2, most=8); guidance in one batch doubles the number of images."
            )

    @staticmethod
    def of(batches: object) -> Profile:
        """Return the profile of (least, typical, most) batch sizes. Raises TargetError when they are not three."""
        if not isinstance(batches, Sequence) or len(batches) != 3:
            raise TargetError(f"an engine's batches are three sizes: least, typical, most; got {batches!r}.")
        return Profile(*batches)

    def sizes(self) -> tuple[int, int, int]:
        return self.least, self.typical, self.most


@dataclass(frozen=True)
class PlanTensor:
    """An input or output of a plan: its shape with -1 for the batch, and its dtype as the library calls it."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Plan:
    """What is known of a plan that was built. The plan itself is a file.

    Attributes:
        target: its name, "tensorrt:sm89". capability: of the GPU it runs on, "sm89".
        library: flavour. version: of the library; a plan runs on this one alone.
        sha256, bytes: of the file. A plan is code: run none whose hash nobody you trust has written down.
        profiles: (least, typical, most) batch sizes; none when the graph has a fixed batch.
        layers: of the network before the builder fused it. seconds: how long the build took when it was made.
        weight_bytes, activation_bytes, scratch_bytes: device memory, as the builder logs it; None where it did not.
    """

    target: str
    capability: str
    library: str
    version: str
    sha256: str
    bytes: int
    profiles: tuple[tuple[int, int, int], ...]
    inputs: tuple[PlanTensor, ...]
    outputs: tuple[PlanTensor, ...]
    layers: int
    seconds: float
    weight_bytes: int | None = None
    activation_bytes: int | None = None
    scratch_bytes: int | None = None
    from_cache: bool = field(default=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `plan_from_dict` reads it."""
        found = asdict(self)
        del found["from_cache"]
        return found


def plan_from_dict(found: Mapping[str, Any], *, from_cache: bool = False) -> Plan:
    """Return what `Plan.as_dict` wrote. Raises KeyError, TypeError or ValueError when it is something else."""
    known = dict(found)
    profiles = tuple((int(a), int(b), int(c)) for a, b, c in known.pop("profiles"))
    inputs, outputs = _tensors(known.pop("inputs")), _tensors(known.pop("outputs"))
    return Plan(**known, profiles=profiles, inputs=inputs, outputs=outputs, from_cache=from_cache)


def _tensors(found: Sequence[Mapping[str, Any]]) -> tuple[PlanTensor, ...]:
    return tuple(PlanTensor(str(t["name"]), tuple(int(size) for size in t["shape"]), str(t["dtype"])) for t in found)
