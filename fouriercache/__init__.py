"""FourierCache: a compiler for diffusion transformers that caches their features between denoising steps."""

from fouriercache.calibration import calibrate
from fouriercache.calibrations import Calibration
from fouriercache.codecs import Dense
from fouriercache.errors import (
    CalibrationError,
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
from fouriercache.indicators import DDPM, BandLimited, Filtered, Flow, Latents, Modulated, TimestepEmbedding
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
from fouriercache.presets import (
    FORA,
    FreqCa,
    HiCache,
    SeaCache,
    Spectrum,
    TaylorSeer,
    TeaCache,
    Tuned,
    method_from_name,
)
from fouriercache.program import Program, Site, TokenGrid
from fouriercache.runtime.module import OptimizedModule
from fouriercache.schedules import Accumulated, Decision, FixedSchedule, Growing, Interval, Polynomial, Table
from fouriercache.tokens import All

__all__ = [
    "DDPM",
    "FORA",
    "Accumulated",
    "All",
    "BandLimited",
    "Banded",
    "Calibrated",
    "Calibration",
    "CalibrationError",
    "CaptureError",
    "Chebyshev",
    "Damped",
    "Decision",
    "Dense",
    "Filtered",
    "FixedSchedule",
    "Flow",
    "FreqCa",
    "Growing",
    "Hermite",
    "HiCache",
    "Interval",
    "Latents",
    "LowPassed",
    "LoweringError",
    "Method",
    "MethodError",
    "MissingExtraError",
    "Modulated",
    "Newton",
    "OptimizeError",
    "OptimizedModule",
    "PassError",
    "Polynomial",
    "PreconditionError",
    "Program",
    "Reuse",
    "SeaCache",
    "Site",
    "Spectrum",
    "Table",
    "Taylor",
    "TaylorSeer",
    "TeaCache",
    "TemporalFourier",
    "TimestepEmbedding",
    "TokenGrid",
    "TrajectoryError",
    "Tuned",
    "UnsupportedModelError",
    "VerifyError",
    "calibrate",
    "method_from_name",
    "optimize",
]
