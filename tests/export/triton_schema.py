"""Triton's published configuration schema, `model_config.proto`, as the client package of the project carries it.

The generated module checks the version of protobuf it runs on and imports gRPC with its package; what is wanted is the
descriptor in it alone, so that is read out of its source.
"""

from __future__ import annotations

import ast
from functools import cache
from importlib.metadata import files
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format


@cache
def model_config_class() -> Any:
    """The message `inference.ModelConfig`."""
    path = next(path for path in files("tritonclient") or [] if path.as_posix().endswith("grpc/model_config_pb2.py"))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    serialized = next(
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "AddSerializedFile"
        and isinstance(node.args[0], ast.Constant)
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(descriptor_pb2.FileDescriptorProto.FromString(serialized))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))


def parse_config(text: str) -> Any:
    """Parse a `config.pbtxt`. Raises ParseError when it is not what the schema says."""
    return text_format.Parse(text, model_config_class()())
