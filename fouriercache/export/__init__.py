"""Lowering programs to forms that run without this package, and bundles of them."""

from fouriercache.export.bundle import ENGINES, check_extras, check_weights, engines_for, export
from fouriercache.export.engine import Engine, Job
from fouriercache.export.exported import export_program

__all__ = ["ENGINES", "Engine", "Job", "check_extras", "check_weights", "engines_for", "export", "export_program"]
