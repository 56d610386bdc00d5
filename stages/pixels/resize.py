"""Sizes and resizing: images by a filter, masks by the nearest pixel centre, vertices by the pixel they fall in."""

import numpy as np
from PIL import Image

from stages.pixels.bands import by_band
from stages.pixels.grids import Size, grid_size
from stages.runtime.errors import BadInput
from stages.settings.common import Filter


def target_size(
    height: int,
    width: int,
    scale: float | None = None,
    long_side: int | None = None,
    size: Size | None = None,
) -> Size:
    """The (height, width) after resizing by ``scale`` or to ``long_side`` or ``size``, unchanged if none is given.

    ``scale`` rounds each side down. ``long_side`` sets the long side exactly, also if that enlarges the image, and
    rounds the short side down to keep the aspect. No side gets below 1. ``size`` is used as given.
    Source: PixelPick's query grid (specification §2.3, A14). Raises BadInput if several are given.
    """
    if sum(value is not None for value in (scale, long_side, size)) > 1:
        raise BadInput("scale, long_side and size are mutually exclusive. Set one of them.")
    if size is not None:
        return size
    if long_side is not None:
        longest = max(height, width)
        return max(1, long_side * height // longest), max(1, long_side * width // longest)
    if scale is not None:
        return grid_size((height, width), scale)
    return height, width


def resize_image(image: np.ndarray, height: int, width: int, kind: Filter = "bilinear") -> np.ndarray:
    """``image`` (H, W, B) u8 resized to (height, width, B) u8 by the filter ``kind``.

    Pillow's bilinear and bicubic (a = -0.5), antialiased if the image shrinks; bicubic-aliased is OpenCV's
    (a = -0.75), which reads 4 x 4 pixels however much the image shrinks.
    """
    if image.shape[:2] == (height, width):
        return image
    if kind == "bicubic-aliased":
        import cv2

        return by_band(image, lambda part: cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC))
    way = Image.Resampling.BICUBIC if kind == "bicubic" else Image.Resampling.BILINEAR
    return by_band(image, lambda part: np.asarray(Image.fromarray(part).resize((width, height), way)))


def resize_mask(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """``mask`` (H, W) of any type resized to (height, width): the pixel under the centre of each new pixel."""
    old_height, old_width = mask.shape
    return mask[np.ix_(source_indices(0, height, height, old_height), source_indices(0, width, width, old_width))]


def short_side_size(size: Size, side: int) -> Size:
    """``size`` (height, width) resized so that its shorter side is ``side``; the longer one is rounded down."""
    height, width = size
    shorter = min(height, width)
    return side * height // shorter, side * width // shorter


def centre_crop(pixels: np.ndarray, side: int) -> np.ndarray:
    """The (side, side, ...) centre of ``pixels`` (H, W, ...), no smaller; half a pixel is rounded to even."""
    top, left = (round((length - side) / 2) for length in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def source_indices(start: int, count: int, scaled: int, source: int) -> np.ndarray:
    """(count,) i64 pixels of a side of ``source`` under the centres of the pixels start.. of ``scaled``.

    floor((i + 1/2) source / scaled), in integers and so without rounding errors.
    """
    positions = np.arange(start, start + count, dtype=np.int64)
    return (2 * positions + 1) * source // (2 * scaled)


def place_vertices(vertices: np.ndarray, old: Size, new: Size) -> np.ndarray:
    """The pixels (V', 2) i32 (y, x) of an image resized from ``old`` to ``new`` (height, width) that contain vertices.

    vertices (V, 2) f64 (y, x), in pixels of the image of size ``old``: floor(vertex * new / old). Those outside the
    image are dropped; several in one pixel are kept. Source: adaptive_superpixel.md 4, polygon click cost.
    """
    placed = np.floor(vertices * new / old)
    inside = ((placed >= 0) & (placed < new)).all(1)
    return placed[inside].astype(np.int32)
