"""The form of a bundle: what its manifest says, how it is read, and how a folder is checked before it is trusted."""

from fouriercache.bundle.calls import dtype_of, signature_of
from fouriercache.bundle.folder import read_folder
from fouriercache.bundle.manifest import MANIFEST, WEIGHTS, Form, Graph, Manifest, read_manifest
from fouriercache.bundle.sizes import shape_of

__all__ = [
    "MANIFEST",
    "WEIGHTS",
    "Form",
    "Graph",
    "Manifest",
    "dtype_of",
    "read_folder",
    "read_manifest",
    "shape_of",
    "signature_of",
]
