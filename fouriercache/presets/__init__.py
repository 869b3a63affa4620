"""Published methods, and our own: each a function that returns a `Method`, in a file of its own."""

from .fora import FORA
from .registry import PRESETS, method_from_name
from .taylorseer import TaylorSeer

__all__ = ["FORA", "PRESETS", "TaylorSeer", "method_from_name"]
