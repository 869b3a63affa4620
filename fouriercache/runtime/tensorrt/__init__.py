"""Running TensorRT plans: named tensors bound by address on the current CUDA stream, captured where addresses recur.

Unproven on a GPU so far: what is here is held to the libraries' protocol by a fake device alone; see docs/tensorrt.md.
"""

from fouriercache.runtime.tensorrt.device import CudaDevice, Device, find_device
from fouriercache.runtime.tensorrt.engine import Engine, EngineTensor, PlanFile, load_engine
from fouriercache.runtime.tensorrt.executable import PlanExecutable
from fouriercache.runtime.tensorrt.plans import PlanGraph, Plans, find_plans

__all__ = [
    "CudaDevice",
    "Device",
    "Engine",
    "EngineTensor",
    "PlanExecutable",
    "PlanFile",
    "PlanGraph",
    "Plans",
    "find_device",
    "find_plans",
    "load_engine",
]
