"""Calibration: which steps to compute and how to predict the others, found on a few trajectories."""

from .calibrate import calibrate
from .fit import Fit

__all__ = ["Fit", "calibrate"]
