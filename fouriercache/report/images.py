"""Images for the page: PNG data addresses and difference images."""

from __future__ import annotations

import base64
import io

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DIFFERENCE_GAIN = 4
"""Differences are shown this many times larger: what one looks for is far below full contrast."""


def data_address(image: NDArray[np.uint8]) -> str:
    """Return `image`, uint8 [height, width, 3], as a `data:image/png;base64,...` address.

    The pixels are stored as they are; the page enlarges them without smoothing.

    Raises:
        ValueError: not a uint8 array of three dimensions with three channels.
    """
    from matplotlib import image as matplotlib_image  # a second, which no command needs that draws no page

    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"an image must be uint8 [height, width, 3], got {image.dtype} {list(image.shape)}")
    buffer = io.BytesIO()
    matplotlib_image.imsave(buffer, image, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def difference(image: NDArray[np.uint8], reference: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the signed difference of two uint8 images, `DIFFERENCE_GAIN` times enlarged, around mid grey, clipped."""
    delta = image.astype(np.int32) - reference.astype(np.int32)
    return np.clip(128 + DIFFERENCE_GAIN * delta, 0, 255).astype(np.uint8)


def to_pixels(images: Tensor) -> NDArray[np.uint8]:
    """Return images in [-1, 1], [n, 3, height, width], as uint8 [n, height, width, 3]; what lies outside is clipped."""
    scaled = ((images.detach().cpu().float() + 1) * 127.5).round().clamp(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).numpy()
