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
from fouriercache.predictors import Reuse, Taylor
from fouriercache.presets import FORA, TaylorSeer, method_from_name
from fouriercache.program import Program, Site, TokenGrid
from fouriercache.runtime.module import OptimizedModule
from fouriercache.schedules import Interval, Table
from fouriercache.tokens import All

__all__ = [
    "FORA",
    "All",
    "CaptureError",
    "Dense",
    "Interval",
    "LoweringError",
    "Method",
    "MethodError",
    "MissingExtraError",
    "OptimizeError",
    "OptimizedModule",
    "PassError",
    "PreconditionError",
    "Program",
    "Reuse",
    "Site",
    "Table",
    "Taylor",
    "TaylorSeer",
    "TokenGrid",
    "TrajectoryError",
    "UnsupportedModelError",
    "VerifyError",
    "method_from_name",
    "optimize",
]
