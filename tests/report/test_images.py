"""Images on the page."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from matplotlib import image as matplotlib_image

from fouriercache.report.images import data_address, difference, to_pixels


def test_a_data_address_holds_the_very_pixels():
    image = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    address = data_address(image)
    assert address.startswith("data:image/png;base64,")
    read = matplotlib_image.imread(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    assert np.array_equal(np.rint(255 * read[..., :3]).astype(np.uint8), image)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 4)])
def test_other_shapes_are_refused_by_name(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match="must be uint8"):
        data_address(np.zeros(shape, dtype=np.uint8))


def test_equal_images_differ_by_mid_grey_and_large_differences_are_clipped():
    dark, bright = np.zeros((2, 2, 3), dtype=np.uint8), np.full((2, 2, 3), 255, dtype=np.uint8)
    assert (difference(dark, dark) == 128).all()
    assert (difference(bright, dark) == 255).all()
    assert (difference(dark, bright) == 0).all()
    assert (difference(dark + 3, dark) == 140).all()


def test_latents_become_pixels_and_what_lies_outside_is_clipped():
    latents = torch.tensor([-1.0, 0.0, 1.0, -7.0, 7.0, 0.5]).view(1, 3, 1, 2)
    pixels = to_pixels(latents)
    assert pixels.shape == (1, 1, 2, 3)
    assert pixels.dtype == np.uint8
    assert pixels.tolist() == [[[[0, 255, 255], [128, 0, 191]]]]
