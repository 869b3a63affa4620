"""What stands in for a value at a step that is not computed: one scalar for each computed feature that is kept.

Every predictor here is linear in the history: prediction = sum_k c_k * H_k, H_0 the newest computed feature, H_1 the
one before it, and so on. The scalars depend only on which steps were computed and which step is predicted, never on
the features, so a predictor is a pure function and one graph serves them all.

A new predictor is one frozen dataclass in a file of its own here; it has the members of `Predictor`.
"""

from .banded import Banded
from .base import Coefficients, GramPredictor, Grams, Predictor, ScalarPredictor, check_length
from .calibrated import Calibrated
from .chebyshev import Chebyshev
from .damped import Damped
from .hermite import Hermite
from .low_passed import LowPassed
from .newton import Newton
from .prony import Prony
from .reuse import Reuse
from .taylor import Taylor
from .temporal_fourier import TemporalFourier

__all__ = [
    "Banded",
    "Calibrated",
    "Chebyshev",
    "Coefficients",
    "Damped",
    "GramPredictor",
    "Grams",
    "Hermite",
    "LowPassed",
    "Newton",
    "Predictor",
    "Prony",
    "Reuse",
    "ScalarPredictor",
    "Taylor",
    "TemporalFourier",
    "check_length",
]
