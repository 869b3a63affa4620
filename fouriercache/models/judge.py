"""The judges: small classifiers of the demos' images and videos, with 64 features to measure a Frechet distance in.

A judge says whether a sample shows the class that was asked for, and how far a set of samples is from real ones. They
are trained by `training/classifier.py`; weights and reference statistics of real samples lie beside this file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fouriercache.errors import WeightsError

__all__ = [
    "FEATURES",
    "ImageJudge",
    "Judge",
    "Statistics",
    "VideoJudge",
    "frechet_distance",
    "load_judge",
    "load_video_judge",
]

FEATURES = 64
"""Width of the feature vector of a sample."""

WEIGHTS = Path(__file__).with_name("judge.safetensors")
VIDEO_WEIGHTS = Path(__file__).with_name("video_judge.safetensors")


@dataclass(frozen=True)
class Statistics:
    """Mean, float64 [d], and covariance, float64 [d, d], of a set of feature vectors."""

    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Statistics:
        """Measure them.

        Args:
            features: [n, d], any floating dtype, n at least 2.

        Raises:
            ValueError: fewer than two vectors have no covariance.
        """
        if features.ndim != 2 or features.shape[0] < 2:
            raise ValueError(
                f"Statistics.of needs features [n, d] with n at least 2, got {list(features.shape)}. Pass more of them."
            )
        wide = features.double()
        return cls(wide.mean(0), torch.cov(wide.T).reshape(wide.shape[1], wide.shape[1]))


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """Squared Frechet distance of two Gaussians, |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)).

    Dowson and Landau 1982, "The Frechet distance between multivariate normal distributions", equation 4; Heusel et al.
    2017 (arXiv:1706.08500, section 2) compare images with it. The trace of the root is taken from the eigenvalues of
    the symmetric C_a^(1/2) C_b C_a^(1/2), which are those of C_a C_b.
    """
    values, vectors = torch.linalg.eigh(a.covariance)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ b.covariance @ root).clamp_min(0).sqrt().sum()
    gap = (a.mean - b.mean).square().sum()
    return float(gap + a.covariance.trace() + b.covariance.trace() - 2 * cross)


class Judge(nn.Module):
    """Convolutions, an average over the sample, 64 features and a logit for each class.

    The buffers `reference_mean`, float64 [64], and `reference_covariance`, float64 [64, 64], are the statistics of
    real samples, all classes in equal number.

    Args:
        stages: maps a batch of samples to [n, width, ...]. classes: how many there are.
    """

    reference_mean: Tensor
    reference_covariance: Tensor

    def __init__(self, stages: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.stages = stages
        self.to_features = nn.Linear(width, FEATURES)
        self.to_logits = nn.Linear(FEATURES, classes)
        self.register_buffer("reference_mean", torch.zeros(FEATURES, dtype=torch.float64))
        self.register_buffer("reference_covariance", torch.eye(FEATURES, dtype=torch.float64))

    @property
    def reference(self) -> Statistics:
        """Statistics of real samples."""
        return Statistics(self.reference_mean, self.reference_covariance)

    def features(self, samples: Tensor) -> Tensor:
        """Map float32 samples in [-1, 1] to float32 [n, 64]."""
        out: Tensor = self.to_features(self.stages(samples).flatten(2).mean(2))
        return out

    def classify(self, features: Tensor) -> Tensor:
        """Map features [n, 64] to logits [n, classes]."""
        out: Tensor = self.to_logits(nn.functional.silu(features))
        return out

    def forward(self, samples: Tensor) -> Tensor:
        """Map float32 samples in [-1, 1] to logits [n, classes]."""
        return self.classify(self.features(samples))

    @torch.no_grad()
    def measure(self, samples: Tensor, batch: int = 250) -> tuple[Tensor, Tensor]:
        """Return the features, float32 [n, 64], and the predicted classes, int64 [n], of n samples, in batches.

        Values outside [-1, 1] are clamped first, as a picture file would.
        """
        found = torch.cat([self.features(part.float().clamp(-1, 1)) for part in torch.split(samples, batch)])
        return found, self.classify(found).argmax(1)


class ImageJudge(Judge):
    """Six convolutions over images, [n, 3, 32, 32], of ten classes."""

    def __init__(self) -> None:
        widths = ((3, 32, 1), (32, 48, 2), (48, 48, 1), (48, 64, 2), (64, 64, 1), (64, 96, 2))
        super().__init__(nn.Sequential(*(_normed(_convolution(nn.Conv2d, i, o, s), o) for i, o, s in widths)), 96, 10)


class VideoJudge(Judge):
    """Five convolutions over space and time of videos, [n, 3, 8, 24, 24], of nine classes."""

    def __init__(self) -> None:
        still, both = (1, 2, 2), (2, 2, 2)
        widths = ((3, 24, still), (24, 32, 1), (32, 48, both), (48, 64, 1), (64, 64, both))
        super().__init__(nn.Sequential(*(_normed(_convolution(nn.Conv3d, i, o, s), o) for i, o, s in widths)), 64, 9)


def _convolution(kind: Any, inputs: int, outputs: int, stride: Any) -> nn.Module:
    made: nn.Module = kind(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return made


def _normed(convolution: nn.Module, outputs: int) -> nn.Sequential:
    return nn.Sequential(convolution, nn.GroupNorm(8, outputs), nn.SiLU())


def load_judge(path: Path = WEIGHTS) -> ImageJudge:
    """Load the trained judge of images, in eval mode, without gradients.

    Raises:
        WeightsError: the file is missing, is no safetensors file, or holds other tensors than the judge's.
    """
    return _load(ImageJudge, path, "python training/classifier.py")


def load_video_judge(path: Path = VIDEO_WEIGHTS) -> VideoJudge:
    """Load the trained judge of videos, in eval mode, without gradients.

    Raises:
        WeightsError: the file is missing, is no safetensors file, or holds other tensors than the judge's.
    """
    return _load(VideoJudge, path, "python training/classifier.py --videos")


_Kind = TypeVar("_Kind", bound=Judge)


def _load(kind: Callable[[], _Kind], path: Path, command: str) -> _Kind:
    if not path.is_file():
        raise WeightsError(
            f"The judge's weights are missing.\n  file: {path}\n"
            f"  Install the package again, or make them with: {command}"
        )
    with torch.random.fork_rng(devices=[]):  # the initial weights are thrown away; leave the caller's draws alone
        judge = kind()
    try:
        judge.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise WeightsError(
            f"The judge's weights cannot be read: {error}\n  file: {path}\n"
            f"  Restore the file from the repository, or make it again with: {command}"
        ) from error
    return judge.eval().requires_grad_(False)
