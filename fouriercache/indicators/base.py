"""What every indicator answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

Source: TypeAlias = Literal["modulated", "latents", "timestep embedding", "timestep projection"]


@runtime_checkable
class Indicator(Protocol):
    """Names a value of the graph, and the filter that it goes through before it is compared."""

    @property
    def name(self) -> str:
        """The indicator's kind in one word, for tables and manifests."""

    @property
    def source(self) -> Source:
        """The value of the graph: see `fouriercache.passes.sources`, which finds it."""

    @property
    def is_filtered(self) -> bool:
        """Whether the value goes through a filter on its token grid."""

    def filters(self, sizes: Sequence[int], timestep: float) -> tuple[Tensor, ...]:
        """Return the filter of a step as matrices along the axes of a grid, [size, size] for each of `sizes`.

        They are applied one after the other; none when `is_filtered` is False.
        """


class UnfilteredIndicator:
    """Base of the indicators that are compared as they are."""

    is_filtered: ClassVar[bool] = False

    def filters(self, sizes: Sequence[int], timestep: float) -> tuple[Tensor, ...]:  # noqa: ARG002  # asks nothing
        """Return no matrices."""
        return ()
