"""Lowering programs to forms that run without this package, and bundles of them."""

from fouriercache.export.bundle import ENGINES, Engine, export
from fouriercache.export.exported import export_program

__all__ = ["ENGINES", "Engine", "export", "export_program"]
