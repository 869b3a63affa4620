"""Published methods, and our own: each a function that returns a `Method`, in a file of its own."""

from .fora import FORA
from .freqca import FreqCa
from .hicache import HiCache
from .registry import PRESETS, method_for, method_from_name
from .seacache import SeaCache
from .spectrum import Spectrum
from .taylorseer import TaylorSeer
from .teacache import TeaCache
from .toca import ToCa
from .tuned import Tuned

__all__ = [
    "FORA",
    "PRESETS",
    "FreqCa",
    "HiCache",
    "SeaCache",
    "Spectrum",
    "TaylorSeer",
    "TeaCache",
    "ToCa",
    "Tuned",
    "method_for",
    "method_from_name",
]
