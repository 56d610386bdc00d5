"""Grids coarser than the images: queries and regions may be on one while the network sees the full images.

One mapping is used everywhere: pixel (y,x) of a grid (h,w) reads pixel (floor(y H/h), floor(x W/w)) of an image (H,W).
"""

from typing import Any

import numpy as np

from stages.pixels.bands import by_band

Size = tuple[int, int]


def grid_size(size: Size, scale: float) -> Size:
    """(height, width) of the grid of an image of ``size``: both sides times ``scale``, rounded down, at least 1."""
    # The addend prevents losing a pixel to rounding, as in 0.29 * 100 = 28.999999999999996.
    height, width = (max(1, int(side * scale + 1e-9)) for side in size)
    return height, width


def read_place(place: Any, count: int, side: int) -> Any:
    """The row or column of ``side`` that each ``place`` of ``count`` reads; integers, NumPy arrays or tensors."""
    return place * side // count


def image_on_grid(image: np.ndarray, size: Size) -> np.ndarray:
    """(H,W,B) u8 resized to (h,w,B) u8, bicubic; the image itself if it already has that size."""
    if image.shape[:2] == tuple(size):
        return image
    from PIL import Image

    def resized(part: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(part).resize((size[1], size[0]), Image.Resampling.BICUBIC))

    return by_band(image, resized)


def map_on_grid(values: np.ndarray, size: Size) -> np.ndarray:
    """(H,W) of any type read at the pixels of a grid (h,w), not interpolated; the map itself if it has that size."""
    height, width = values.shape
    if (height, width) == tuple(size):
        return values
    y, x = read_place(np.arange(size[0]), size[0], height), read_place(np.arange(size[1]), size[1], width)
    return values[y[:, None], x]


def map_on_image(values: np.ndarray, size: Size) -> np.ndarray:
    """(h,w) of any type spread over an image (H,W) that is no smaller, so that `map_on_grid` gives it back."""
    if values.shape == tuple(size):
        return values
    sides = zip(values.shape, size, strict=True)
    y, x = (np.searchsorted(read_place(np.arange(n), n, side), np.arange(side), "right") - 1 for n, side in sides)
    return values[y[:, None], x]
