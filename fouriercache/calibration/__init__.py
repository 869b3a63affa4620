"""Calibration: which steps to compute, found on a few trajectories of a model and its sampler."""

from .calibrate import calibrate

__all__ = ["calibrate"]
