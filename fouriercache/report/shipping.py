"""The demo's bundle: one setting exported, its loop run in ONNX Runtime, plans built for one GPU that is not there."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fouriercache.bundle.manifest import WEIGHTS, Manifest
from fouriercache.export import export
from fouriercache.load import load
from fouriercache.report.data import Check, PlanRow, Shipped
from fouriercache.report.sampling import Request, SamplingLoop, relative_error
from fouriercache.runtime.module import OptimizedModule

TARGET = "tensorrt:sm89"
"""An RTX 40; plans for it are built on any machine."""

_TOLERANCE = 1e-4
"""Float32, summed in another order in every product of every step."""


def can_ship() -> bool:
    """Whether the extra that exports and runs bundles is installed."""
    return all(find_spec(name) is not None for name in ("onnx", "onnxscript", "onnxruntime"))


def ship(
    fast: OptimizedModule, label: str, request: Request, eager: SamplingLoop, folder: Path
) -> tuple[Shipped, tuple[Check, ...]]:
    """Export a module, and run the loop of `request` in ONNX Runtime.

    Args:
        label: of the module's run. eager: the same loop, done. folder: of the bundle; one that is there is replaced.

    Raises:
        OptimizeError: it cannot be exported, or the bundle not be run.
    """
    targets = [TARGET] if find_spec("tensorrt_rtx_bindings") is not None else []
    manifest = export(fast, folder, targets=["onnx", *targets])
    bundled = load(folder)
    warm = SamplingLoop(bundled, Request.draw(classes=1, seed=0, steps=request.steps, guidance=request.guidance))
    warm.advance(2)
    bundled.reset()
    loop = SamplingLoop(bundled, request, bundled.prepare)
    loop.advance(request.steps)
    error = relative_error(loop.latents[-1], eager.latents[-1])
    plans = tuple(_plan_row(entry, manifest) for entry in manifest.plans.get(TARGET, {}).values())
    shipped = Shipped(
        label=label,
        folder=folder.name,
        graphs=tuple((name, file.bytes) for name, file in manifest.files.items() if name.endswith(".onnx")),
        weight_bytes=manifest.files[WEIGHTS].bytes,
        seconds=loop.seconds,
        error=error,
        target=TARGET if plans else "",
        plans=plans,
    )
    return shipped, (
        Check(
            "The bundle's loop in ONNX Runtime equals the same loop in eager",
            error <= _TOLERANCE,
            f"relative difference {error:.2g} after {request.steps} steps, {_TOLERANCE:g} allowed",
        ),
    )


def _plan_row(entry: Mapping[str, Any], manifest: Manifest) -> PlanRow:
    facts = entry["facts"] or {}
    return PlanRow(
        file=entry["file"],
        bytes=manifest.files[entry["file"]].bytes,
        weight_bytes=facts.get("weight_bytes"),
        gemms=facts.get("gemms"),
        host_branches=facts.get("host_branches"),
        capturable=facts.get("capturable"),
    )
