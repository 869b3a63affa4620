"""Triton's `config.pbtxt` of one model: what it takes and gives, where it runs, and which state Triton keeps for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fouriercache.errors import LoweringError
from fouriercache.export.triton.pbtxt import Enum, Value, as_pbtxt

Runner = Literal["onnxruntime", "tensorrt"]
Kind = Literal["gpu", "cpu"]

_FILES: dict[Runner, str] = {"onnxruntime": "model.onnx", "tensorrt": "model.plan"}
_PLATFORMS: dict[Runner, str] = {"onnxruntime": "onnxruntime_onnx", "tensorrt": "tensorrt_plan"}
_IDLE = 60 * 10**6
"""Microseconds a sequence may wait for its next step. Triton's own second is short for a large model's first step."""
_TYPES = {
    "BOOL": "TYPE_BOOL",
    "INT8": "TYPE_INT8",
    "UINT8": "TYPE_UINT8",
    "INT32": "TYPE_INT32",
    "INT64": "TYPE_INT64",
    "FLOAT": "TYPE_FP32",
    "FLOAT16": "TYPE_FP16",
    "BFLOAT16": "TYPE_BF16",
    "DOUBLE": "TYPE_FP64",
}


@dataclass(frozen=True)
class ServedTensor:
    """An input or output as Triton sees it: -1 is the batch, `dtype` as ONNX calls it. At least one axis."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def as_field(self) -> dict[str, Value]:
        """For `config.pbtxt`. Raises LoweringError when Triton has no such dtype."""
        return {"name": self.name, "data_type": self.data_type(), "dims": list(self.shape)}

    def data_type(self) -> Enum:
        """Triton's name for the dtype. Raises LoweringError when it has none."""
        if self.dtype not in _TYPES:
            raise LoweringError(
                f"Triton has no data type for {self.name}, which is {self.dtype}.\n"
                f"  It knows {', '.join(_TYPES)}. Keep features in one of them: fc.Dense(), fc.Quantized('int8')."
            )
        return Enum(_TYPES[self.dtype])


@dataclass(frozen=True)
class State:
    """What Triton keeps between the requests of a sequence: an input, the output it comes from, zero in the first.

    The shapes are fixed: the first request's zeros have them.
    """

    given: ServedTensor
    returned: str

    def as_field(self) -> dict[str, Value]:
        """For `config.pbtxt`."""
        form: dict[str, Value] = {"data_type": self.given.data_type(), "dims": list(self.given.shape)}
        zeros = {"name": f"{self.given.name}_zeros", **form, "zero_data": True}
        return {"input_name": self.given.name, "output_name": self.returned, **form, "initial_state": zeros}


def model_config(
    name: str,
    runner: Runner,
    inputs: Sequence[ServedTensor],
    outputs: Sequence[ServedTensor],
    *,
    states: Sequence[State] = (),
    kind: Kind = "gpu",
    instances: int = 1,
    accelerator: Mapping[str, str] | None = None,
) -> str:
    """Return the text of a `config.pbtxt`.

    Triton batches nothing: requests of different steps take different scalars, so a request brings its whole batch.

    Args:
        inputs, outputs: without those of `states`.
        states: what Triton keeps for a sequence; none for a model whose caller keeps it.
        instances: of the model on each device; one holds one sequence at a time.
        accelerator: ONNX Runtime's TensorRT provider with these options; None is its CUDA or CPU provider.

    Raises:
        LoweringError: Triton has no data type for a tensor.
    """
    message: dict[str, Value] = {
        "name": name,
        "backend": runner,
        "platform": _PLATFORMS[runner],
        "max_batch_size": 0,
        "default_model_filename": _FILES[runner],
        "input": [tensor.as_field() for tensor in inputs],
        "output": [tensor.as_field() for tensor in outputs],
        "instance_group": [{"kind": Enum(f"KIND_{kind.upper()}"), "count": instances}],
    }
    if states:
        message["sequence_batching"] = {
            "max_sequence_idle_microseconds": _IDLE,
            "direct": {},
            "state": [state.as_field() for state in states],
        }
    if accelerator is not None:
        options = [{"key": key, "value": value} for key, value in accelerator.items()]
        chosen: dict[str, Value] = {"name": "tensorrt", "parameters": options}
        message["optimization"] = {"execution_accelerators": {"gpu_execution_accelerator": [chosen]}}
    return as_pbtxt(message)
