"""FourierCache: a compiler for diffusion transformers that caches their features between denoising steps."""

from fouriercache.codecs import Dense
from fouriercache.errors import (
    CaptureError,
    LoweringError,
    MethodError,
    MissingExtraError,
    OptimizeError,
    PassError,
    PreconditionError,
    TrajectoryError,
    UnsupportedModelError,
    VerifyError,
)
from fouriercache.methods import Method
from fouriercache.optimize import optimize
from fouriercache.predictors import (
    Banded,
    Calibrated,
    Chebyshev,
    Damped,
    Hermite,
    LowPassed,
    Newton,
    Reuse,
    Taylor,
    TemporalFourier,
)
from fouriercache.presets import FORA, FreqCa, HiCache, Spectrum, TaylorSeer, method_from_name
from fouriercache.program import Program, Site, TokenGrid
from fouriercache.runtime.module import OptimizedModule
from fouriercache.schedules import Growing, Interval, Table
from fouriercache.tokens import All

__all__ = [
    "FORA",
    "All",
    "Banded",
    "Calibrated",
    "CaptureError",
    "Chebyshev",
    "Damped",
    "Dense",
    "FreqCa",
    "Growing",
    "Hermite",
    "HiCache",
    "Interval",
    "LowPassed",
    "LoweringError",
    "Method",
    "MethodError",
    "MissingExtraError",
    "Newton",
    "OptimizeError",
    "OptimizedModule",
    "PassError",
    "PreconditionError",
    "Program",
    "Reuse",
    "Site",
    "Spectrum",
    "Table",
    "Taylor",
    "TaylorSeer",
    "TemporalFourier",
    "TokenGrid",
    "TrajectoryError",
    "UnsupportedModelError",
    "VerifyError",
    "method_from_name",
    "optimize",
]
