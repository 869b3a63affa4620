"""What a manifest says of a bundle's engines: of each, its file, what it was built with, and its facts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from fouriercache.bundle.plain import from_plain
from fouriercache.errors import BundleError


@dataclass(frozen=True)
class PlanFacts:
    """What the compiled program of a plan is.

    Attributes:
        version: of TensorRT-RTX. accelerators: what it was built for, ("sm89",).
        inputs, outputs: how many; their names are in what `build_plan` returns, as the builder renames some.
        weight_bytes: of the constants it holds, each counted once.
        capturable: whether it can be captured in a CUDA graph.
        host_branches: jumps that wait on the host for a value of the device.
        copies: of tensors between places, in the program. shape_copies: of sizes, before it runs.
        gemms: matrix products, fused or not. fused_attention: attention kernels. kernels: of every other kind.
    """

    version: str
    accelerators: tuple[str, ...]
    inputs: int
    outputs: int
    weight_bytes: int
    capturable: bool
    host_branches: int
    copies: int
    shape_copies: int
    gemms: int
    fused_attention: int
    kernels: int


@dataclass(frozen=True)
class _Entry:
    """One plan. `plan` is what its builder says, `facts` what it says of itself, where that can be read."""

    file: str
    plan: Mapping[str, Any]
    facts: PlanFacts | None


def check_plans(plans: Mapping[str, Any], graphs: Collection[str], files: Collection[str]) -> None:
    """Raise BundleError when an entry of a manifest's `plans` is not of the form that an export writes.

    Args:
        plans: by target, then by the graph that the plan stands for. graphs: the ONNX files. files: all files.
    """
    for target, entries in plans.items():
        where = f"plans.{target}"
        read = from_plain(Mapping[str, _Entry], entries, where)
        if not read:
            raise BundleError(f"the bundle's manifest is not as it should be: {where} names no plan.")
        for graph, entry in read.items():
            if graph not in graphs:
                raise BundleError(f"the bundle's manifest has a plan of {graph!r} in {where}, and no such graph.")
            if entry.file not in files:
                raise BundleError(
                    f"the bundle's manifest has no checksum for {entry.file!r}, the plan of {graph} in {where}."
                )
            for name in ("library", "version", "capability"):
                from_plain(str, entry.plan.get(name), f"{where}.{graph}.plan.{name}")
