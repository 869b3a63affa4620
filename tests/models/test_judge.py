"""The classifier of the demo's images and the Frechet distance in its features."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from classifier import IMAGES, VIDEOS
from torch import Tensor

from fouriercache.errors import WeightsError
from fouriercache.models.judge import (
    FEATURES,
    VIDEO_WEIGHTS,
    WEIGHTS,
    Judge,
    Statistics,
    frechet_distance,
    load_judge,
    load_video_judge,
)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return load_judge()


@pytest.fixture(scope="module")
def real() -> tuple[Tensor, Tensor]:
    return IMAGES.draw_balanced(500, seed=7)


def gaussian(mean: list[float], covariance: list[list[float]]) -> Statistics:
    return Statistics(torch.tensor(mean, dtype=torch.float64), torch.tensor(covariance, dtype=torch.float64))


def test_judge_knows_every_class_of_real_images(judge: Judge, real: tuple[Tensor, Tensor]):
    images, labels = real
    _, predicted = judge.measure(images)
    right = (predicted == labels).double()
    assert right.mean() >= 0.995
    assert min(right[labels == k].mean().item() for k in range(10)) >= 0.98


def test_judge_knows_them_without_colour(judge: Judge, real: tuple[Tensor, Tensor]):
    images, labels = real
    _, predicted = judge.measure(images.mean(1, keepdim=True).expand_as(images))
    assert (predicted == labels).double().mean() >= 0.99


def test_judge_of_videos_knows_real_ones_and_is_not_fooled_by_spoilt_ones():
    judge = load_video_judge()
    videos, labels = VIDEOS.draw_balanced(270, seed=7)
    features, predicted = judge.measure(videos)
    assert (predicted == labels).double().mean() >= 0.98
    still = videos[:, :, :1].expand_as(videos)  # no motion
    found, predicted = judge.measure(still)
    assert (predicted == labels).double().mean() < 0.6
    near, far = (frechet_distance(Statistics.of(x), judge.reference) for x in (features, found))
    assert 10 * near < far


def test_measure_does_not_depend_on_its_batch_and_clamps(judge: Judge, real: tuple[Tensor, Tensor]):
    images = real[0][:7]
    features, predicted = judge.measure(images, batch=3)
    assert features.shape == (7, FEATURES)
    assert predicted.dtype == torch.int64
    torch.testing.assert_close(features, judge.features(images), rtol=1e-4, atol=1e-4)
    loud, _ = judge.measure(images * 3)
    torch.testing.assert_close(loud, judge.features((images * 3).clamp(-1, 1)), rtol=1e-4, atol=1e-4)


def test_real_images_are_near_the_reference_and_spoilt_ones_are_not(judge: Judge, real: tuple[Tensor, Tensor]):
    images, _ = real
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    near, blurred, noisy = (
        frechet_distance(Statistics.of(judge.measure(x)[0]), judge.reference)
        for x in (images, torch.nn.functional.avg_pool2d(images, 3, 1, 1), images + 0.2 * noise)
    )
    assert near >= 0
    assert 10 * near < blurred
    assert 10 * near < noisy


def test_distance_of_commuting_gaussians_is_the_closed_form():
    a, b = gaussian([0.0, 1.0], [[4.0, 0.0], [0.0, 9.0]]), gaussian([3.0, 1.0], [[1.0, 0.0], [0.0, 16.0]])
    assert frechet_distance(a, b) == pytest.approx(3**2 + (2 - 1) ** 2 + (3 - 4) ** 2, abs=1e-9)


def test_distance_is_symmetric_and_zero_to_itself():
    generator = torch.Generator().manual_seed(1)
    first, second = (Statistics.of(torch.randn(50, 6, generator=generator) @ torch.randn(6, 6)) for _ in range(2))
    assert frechet_distance(first, second) == pytest.approx(frechet_distance(second, first), abs=1e-9)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)


def test_distance_takes_the_root_of_covariances_that_do_not_commute():
    a, b = gaussian([0.0, 0.0], [[2.0, 1.0], [1.0, 2.0]]), gaussian([0.0, 0.0], [[1.0, 0.0], [0.0, 3.0]])
    product = a.covariance @ b.covariance
    # A 2 x 2 root has trace sqrt(trace + 2 sqrt(determinant)).
    expected = 4 + 4 - 2 * (product.trace() + 2 * product.det().sqrt()).sqrt().item()
    assert frechet_distance(a, b) == pytest.approx(expected, abs=1e-9)


def test_statistics_need_two_vectors():
    with pytest.raises(ValueError, match=r"n at least 2, got \[1, 64\]"):
        Statistics.of(torch.zeros(1, 64))


def test_missing_and_damaged_weights_are_named(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"missing.*\n.*judge\.safetensors"):
        load_judge(tmp_path / "judge.safetensors")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(WEIGHTS.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"cannot be read[\s\S]*broken\.safetensors"):
        load_judge(broken)


def test_weights_are_small_enough_to_ship():
    assert WEIGHTS.stat().st_size < 2**20
    assert VIDEO_WEIGHTS.stat().st_size < 2 * 2**20
