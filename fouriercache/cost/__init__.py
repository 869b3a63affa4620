"""What programs cost: counted on the graph, and predicted for a device before anything runs."""

from fouriercache.cost.counts import (
    CallCost,
    ModeCost,
    block_flops,
    bytes_kept,
    cost_of,
    cost_of_call,
    cost_of_calls,
    weights_of,
)
from fouriercache.cost.devices import DEVICES, Device, device_from_name
from fouriercache.cost.liveness import peak_bytes
from fouriercache.cost.measure import measure_cpu
from fouriercache.cost.roofline import Work, work_of
from fouriercache.cost.sizes import Sizes, hinted

__all__ = [
    "DEVICES",
    "CallCost",
    "Device",
    "ModeCost",
    "Sizes",
    "Work",
    "block_flops",
    "bytes_kept",
    "cost_of",
    "cost_of_call",
    "cost_of_calls",
    "device_from_name",
    "hinted",
    "measure_cpu",
    "peak_bytes",
    "weights_of",
    "work_of",
]
