"""The judge: a small classifier of the demo's images, with 64 features to measure a Frechet distance in.

It says whether a sample shows the class that was asked for, and how far a set of samples is from real images. It is
trained by `training/classifier.py`; weights and reference statistics of real images lie beside this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fouriercache.errors import WeightsError

__all__ = ["FEATURES", "Judge", "Statistics", "frechet_distance", "load_judge"]

FEATURES = 64
"""Width of the feature vector of an image."""

WEIGHTS = Path(__file__).with_name("judge.safetensors")


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
                f"Statistics.of needs features [n, d] with n at least 2, got {list(features.shape)}. Pass more images."
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


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.GroupNorm(8, outputs), nn.SiLU()
    )


class Judge(nn.Module):
    """Six convolutions, an average over the picture, 64 features and ten logits.

    The buffers `reference_mean`, float64 [64], and `reference_covariance`, float64 [64, 64], are the statistics of
    real images, all classes in equal number.
    """

    reference_mean: Tensor
    reference_covariance: Tensor

    def __init__(self) -> None:
        super().__init__()
        widths = ((3, 32, 1), (32, 48, 2), (48, 48, 1), (48, 64, 2), (64, 64, 1), (64, 96, 2))
        self.stages = nn.Sequential(*(_stage(i, o, s) for i, o, s in widths))
        self.to_features = nn.Linear(96, FEATURES)
        self.to_logits = nn.Linear(FEATURES, 10)
        self.register_buffer("reference_mean", torch.zeros(FEATURES, dtype=torch.float64))
        self.register_buffer("reference_covariance", torch.eye(FEATURES, dtype=torch.float64))

    @property
    def reference(self) -> Statistics:
        """Statistics of real images."""
        return Statistics(self.reference_mean, self.reference_covariance)

    def features(self, images: Tensor) -> Tensor:
        """Map float32 [n, 3, 32, 32] in [-1, 1] to float32 [n, 64]."""
        out: Tensor = self.to_features(self.stages(images).mean(dim=(2, 3)))
        return out

    def classify(self, features: Tensor) -> Tensor:
        """Map features [n, 64] to logits [n, 10]."""
        out: Tensor = self.to_logits(nn.functional.silu(features))
        return out

    def forward(self, images: Tensor) -> Tensor:
        """Map float32 [n, 3, 32, 32] in [-1, 1] to logits [n, 10]."""
        return self.classify(self.features(images))

    @torch.no_grad()
    def measure(self, images: Tensor, batch: int = 250) -> tuple[Tensor, Tensor]:
        """Return the features, float32 [n, 64], and the predicted classes, int64 [n], of n images, in batches.

        Values outside [-1, 1] are clamped first, as a picture file would.
        """
        found = torch.cat([self.features(part.float().clamp(-1, 1)) for part in torch.split(images, batch)])
        return found, self.classify(found).argmax(1)


def load_judge(path: Path = WEIGHTS) -> Judge:
    """Load the trained judge, in eval mode, without gradients.

    Raises:
        WeightsError: the file is missing, is no safetensors file, or holds other tensors than the judge's.
    """
    if not path.is_file():
        raise WeightsError(
            f"The judge's weights are missing.\n  file: {path}\n"
            "  Install the package again, or make them with: python training/classifier.py"
        )
    with torch.random.fork_rng(devices=[]):  # the initial weights are thrown away; leave the caller's draws alone
        judge = Judge()
    try:
        judge.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise WeightsError(
            f"The judge's weights cannot be read: {error}\n  file: {path}\n"
            "  Restore the file from the repository, or make it again with: python training/classifier.py"
        ) from error
    return judge.eval().requires_grad_(False)
