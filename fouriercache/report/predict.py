"""What the cost model says of the demo's loops: on this processor, measured now, and on a GPU by its data sheet."""

from __future__ import annotations

from collections.abc import Sequence

from fouriercache.cost import DEVICES, measure_cpu
from fouriercache.report.prediction import Prediction
from fouriercache.runtime.module import OptimizedModule

_GPU = "h200"


def predict_loops(modules: Sequence[OptimizedModule], labels: Sequence[str], batch: int) -> tuple[Prediction, ...]:
    """Predict the prepared loop of each module, at a batch; measures this processor first."""
    cpu, gpu = measure_cpu(), DEVICES[_GPU]
    found = []
    for fast, label in zip(modules, labels, strict=True):
        report = fast.report
        here, there = (report.cost(device, batch=batch, prepared=True) for device in (cpu, gpu))
        if here.trajectory is not None and there.trajectory is not None:
            ratios = 1 / here.trajectory.speedup, 1 / there.trajectory.speedup
            flops = 1 / here.trajectory.flops_speedup
            found.append(Prediction(label, *ratios, gpu.name, flops, here.peak_memory))
    return tuple(found)
