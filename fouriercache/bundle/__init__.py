"""The form of a bundle: what its manifest says, how it is read, and how a folder is checked before it is trusted."""

from fouriercache.bundle.calls import OutputTree, dtype_of, signature_of
from fouriercache.bundle.folder import folder_of, read_folder
from fouriercache.bundle.graphs import read_graph
from fouriercache.bundle.manifest import (
    MANIFEST,
    WEIGHTS,
    Form,
    Graph,
    GraphParts,
    GraphProbe,
    Manifest,
    Returned,
    read_manifest,
)
from fouriercache.bundle.sizes import is_evaluable, shape_of

__all__ = [
    "MANIFEST",
    "WEIGHTS",
    "Form",
    "Graph",
    "GraphParts",
    "GraphProbe",
    "Manifest",
    "OutputTree",
    "Returned",
    "dtype_of",
    "folder_of",
    "is_evaluable",
    "read_folder",
    "read_graph",
    "read_manifest",
    "shape_of",
    "signature_of",
]
