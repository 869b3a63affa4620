"""Running a bundle's graphs in ONNX Runtime, with tensors bound where they lie and no provider but that asked for."""

from fouriercache.runtime.onnxruntime.executable import GraphExecutable
from fouriercache.runtime.onnxruntime.sessions import Engine

__all__ = ["Engine", "GraphExecutable"]
