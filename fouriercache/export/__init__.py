"""Lowering programs to forms that run without this package. So far: `torch.export`'s own."""

from fouriercache.export.exported import export_program

__all__ = ["export_program"]
