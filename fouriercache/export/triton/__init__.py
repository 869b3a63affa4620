"""Model repositories for NVIDIA Triton Inference Server."""

from fouriercache.export.triton.config import Kind, Runner, ServedTensor, State, model_config
from fouriercache.export.triton.from_bundle import check_servable, export_triton
from fouriercache.export.triton.pbtxt import Enum, Value, as_pbtxt
from fouriercache.export.triton.repository import Served, check_folder, write_repository
from fouriercache.export.triton.served_graph import ServedGraph

__all__ = [
    "Enum",
    "Kind",
    "Runner",
    "Served",
    "ServedGraph",
    "ServedTensor",
    "State",
    "Value",
    "as_pbtxt",
    "check_folder",
    "check_servable",
    "export_triton",
    "model_config",
    "write_repository",
]
