"""Every error the package raises on purpose. The rooms below and above all import it; it imports nothing."""

from __future__ import annotations


class OptimizeError(Exception):
    """Base of every error of this package."""


class MethodError(OptimizeError, ValueError):
    """A caching method, or one of its fields, is unknown or has a value that makes no sense."""


class PathError(OptimizeError):
    """What was given as a path is none, or none that a file can have."""


class CaptureError(OptimizeError):
    """The model could not be captured as a graph, or the captured graph does not compute what the model computes."""


class CacheFolderError(OptimizeError):
    """A folder for captures or TensorRT plans cannot be made, looked at or written to, or others can write to it."""


class UnsupportedModelError(OptimizeError):
    """The captured graph has nothing the method can work on: no blocks, no sites of the asked kind, no token grid."""


class PreconditionError(OptimizeError):
    """A pass was asked to run on a program that lacks what the pass needs."""


class NotCapturedError(PreconditionError, AttributeError):
    """Facts of a capture were asked for before there was one. An AttributeError too, for `hasattr` to answer False."""


class LoweringError(OptimizeError):
    """A program could not be lowered to a backend."""


class TargetError(OptimizeError, ValueError):
    """An export target, or one of its options, is unknown, makes no sense, or cannot be built for here."""


class EngineError(OptimizeError, RuntimeError):
    """An engine cannot be loaded or run here: another GPU or library, a damaged plan, shapes it was not built for."""


class BundleError(OptimizeError, ValueError):
    """A bundle cannot be written, is not what its manifest says, or has no graphs for a call of this form."""


class TrajectoryError(OptimizeError, RuntimeError):
    """A call does not fit the denoising trajectory it belongs to, so cached features would be wrong for it."""


class CalibrationError(OptimizeError, ValueError):
    """A calibration cannot be made or read, or belongs to another model, method or sampler than it is used with."""


class GoldenError(OptimizeError, ValueError):
    """A golden of graphs cannot be read, or does not say how to make the graphs again."""


class ModelSpecError(OptimizeError, ValueError):
    """A model was named that there is none of, or that cannot be built."""


class MissingExtraError(OptimizeError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


class PassError(OptimizeError):
    """A pass broke its contract. This is a defect of fouriercache, not of the caller; please report it."""


class VerifyError(OptimizeError):
    """A program is malformed between passes. This is a defect of fouriercache, not of the caller; please report it."""


class WeightsError(OptimizeError, OSError):
    """A weight file that the package ships is missing, cut short, or not the one its manifest records."""


class RecaptureWarning(UserWarning):
    """The model is captured again and again: a Python number in its calls changes, or what it asks of its inputs."""


class ShortTrajectoryWarning(UserWarning):
    """A trajectory began while the one before had taken fewer steps than declared: its schedule was for more."""


class NegativeChangeWarning(UserWarning):
    """A polynomial says of a step that less than nothing changed, and that counts as nothing: it fits another model."""
