"""The video generator: the same videos for the same seed, in range, classes to be told apart, textures that move."""

from __future__ import annotations

import moving_shapes
import pytest
import torch
from classifier import VIDEOS, shuffle_colours
from torch import Tensor

from fouriercache.models.judge import load_video_judge


def draw(label: int, seed: int, count: int = 12, frames: int = moving_shapes.FRAMES) -> Tensor:
    return moving_shapes.draw(torch.full((count,), label), torch.Generator().manual_seed(seed), frames)


def test_same_seed_draws_the_same_videos():
    assert torch.equal(draw(3, 1), draw(3, 1))
    assert not torch.equal(draw(3, 1), draw(3, 2))


def test_videos_have_the_documented_shape_and_range():
    videos, labels = VIDEOS.draw_balanced(45, seed=1)
    assert videos.shape == (45, 3, moving_shapes.FRAMES, moving_shapes.SIZE, moving_shapes.SIZE)
    assert labels.tolist() == [*range(9)] * 5
    assert videos.dtype == torch.float32
    assert videos.min() >= -1
    assert videos.max() <= 1


@pytest.mark.parametrize("label", range(len(moving_shapes.CLASSES)), ids=moving_shapes.CLASSES)
def test_every_class_is_recognised_and_varies(label: int):
    videos = draw(label, seed=label, count=40)
    _, predicted = load_video_judge().measure(videos)
    assert (predicted == label).double().mean() >= 0.9
    assert videos.std(dim=0).mean() > 0.1


def test_the_background_stands_still_and_the_object_does_not():
    for label in range(len(moving_shapes.CLASSES)):
        change = draw(label, seed=1).diff(dim=2).abs().amax(dim=1)  # [n, frames - 1, s, s]
        # the edge of the picture, which few objects reach; their soft edges fade, and end nowhere
        assert (change[..., 0, :] < 1e-2).float().mean() > 0.7
        assert (change.flatten(1).amax(1) > 0.1).all()


def test_a_part_of_a_video_has_as_many_successive_frames():
    part = draw(0, seed=1, frames=2)
    assert part.shape[2] == 2
    assert (part[:, :, 1] - part[:, :, 0]).abs().amax() > 0.1


def test_shuffled_colours_are_the_same_in_every_frame():
    videos = draw(5, seed=3, count=64)
    shuffled = shuffle_colours(videos, torch.Generator().manual_seed(0))
    still = (videos.diff(dim=2) == 0).all(1).all(1)  # [n, s, s]
    assert still.any()
    assert (shuffled.diff(dim=2).abs().amax(dim=(1, 2))[still] < 1e-6).all()
    assert 10 < (shuffled != videos).flatten(1).any(1).sum() < 54
