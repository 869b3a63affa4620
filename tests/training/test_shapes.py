"""The image generator: the same images for the same seed, in range, every class to be told from the others."""

from __future__ import annotations

import pytest
import shapes
import torch
from classifier import IMAGES, shuffle_colours
from torch import Tensor

from fouriercache.models.judge import load_judge


def draw(seed: int, count: int = 20) -> Tensor:
    return shapes.draw(torch.arange(count) % len(shapes.CLASSES), torch.Generator().manual_seed(seed))


def test_same_seed_draws_the_same_images():
    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_drawing_leaves_the_global_random_numbers_alone():
    state = torch.random.get_rng_state()
    draw(1)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_images_have_the_documented_shape_and_range():
    images = draw(3, count=200)
    assert images.shape == (200, 3, shapes.SIZE, shapes.SIZE)
    assert images.dtype == torch.float32
    assert images.isfinite().all()
    assert images.min() >= -1
    assert images.max() <= 1


@pytest.mark.parametrize("label", range(len(shapes.CLASSES)), ids=shapes.CLASSES)
def test_every_class_is_recognised_and_varies(label: int):
    images = shapes.draw(torch.full((40,), label), torch.Generator().manual_seed(label))
    _, predicted = load_judge().measure(images)
    assert (predicted == label).double().mean() >= 0.95
    assert images.std(dim=0).mean() > 0.1


def test_images_carry_both_smooth_structure_and_fine_texture():
    # Frequencies above an eighth of the sampling rate are details of less than eight pixels.
    spectrum = torch.fft.rfft2(draw(4, count=100)).abs().square().mean(dim=(0, 1))
    spectrum[0, 0] = 0
    size = shapes.SIZE
    frequency = (torch.fft.fftfreq(size)[:, None].square() + torch.fft.rfftfreq(size)[None].square()).sqrt()
    fine = (spectrum[frequency > 1 / 8].sum() / spectrum.sum()).item()
    assert 0.1 < fine < 0.9


def test_held_out_images_are_not_the_training_images():
    first, labels = IMAGES.draw_balanced(10, seed=1)
    second, _ = IMAGES.draw_balanced(10, seed=2)
    assert labels.tolist() == list(range(10))
    assert (first - second).abs().amax(dim=(1, 2, 3)).min() > 0.1


def test_shuffled_colours_keep_the_brightness():
    images = draw(5, count=64)
    shuffled = shuffle_colours(images, torch.Generator().manual_seed(0))
    changed = (shuffled != images).flatten(1).any(1)
    assert 10 < changed.sum() < 54
    torch.testing.assert_close(shuffled.mean(1), images.mean(1))
