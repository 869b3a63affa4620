"""Calibration: which steps to compute and how to predict the others, found on a few trajectories."""

from .analyze import analyze
from .calibrate import calibrate
from .fit import Fit
from .spectra import Analysis, SiteSpectrum

__all__ = ["Analysis", "Fit", "SiteSpectrum", "analyze", "calibrate"]
