"""Random scale, rotation, crop and flip: one window per sample, through which both image and labels are read.

The window defines one index map from crop pixels to source pixels (pixel centres). Labels are read through it by
nearest neighbour, the image by bilinear interpolation.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from stages.pixels.bands import by_band
from stages.pixels.grids import Size, grid_size
from stages.pixels.resize import source_indices
from stages.pixels.void import VOID


@dataclass(frozen=True)
class Window:
    """A crop of (height, width) at (top, left) of the source scaled to (scaled_height, scaled_width), mirrored or not.

    Before the crop, the scaled source is rotated by ``angle`` degrees about its centre, anticlockwise as `np.rot90`,
    within its rectangle: uncovered corners are filled by reflection about its edges, edge pixels repeated (numpy's
    "symmetric"). The part of the crop outside that rectangle (bottom and right only) is padding.
    """

    scaled_height: int
    scaled_width: int
    top: int
    left: int
    height: int
    width: int
    mirrored: bool
    angle: int = 0

    @property
    def visible(self) -> Size:
        """Rows and columns of the crop that are not padding."""
        return min(self.height, self.scaled_height - self.top), min(self.width, self.scaled_width - self.left)


@dataclass(frozen=True)
class Scales:
    """Scales from ``low`` to ``high``: any if ``step`` is 0, otherwise only ``low`` plus multiples of ``step``."""

    low: float
    high: float
    step: float = 0.0

    def choices(self) -> list[float]:
        """The scales of a positive step: 7 from 0.5 to 2 in steps of 0.25."""
        return [self.low + self.step * number for number in range(int((self.high - self.low) / self.step + 1e-9) + 1)]

    def draw(self, generator: np.random.Generator) -> float:
        return float(generator.choice(self.choices()) if self.step else generator.uniform(self.low, self.high))


def draw_window(
    size: Size,
    crop: Size,
    scales: Scales,
    flip: float,
    generator: np.random.Generator,
    rotation: int = 0,
) -> Window:
    """A random window: both sides scaled by one random s, rounded down; uniform offsets; mirrored with ``flip``.

    The angle is uniform over the whole degrees -rotation..rotation. It is drawn last, and only if ``rotation`` is set.
    """
    scale = scales.draw(generator)
    scaled = grid_size(size, scale)
    top, left = (int(generator.integers(0, max(0, big - small) + 1)) for big, small in zip(scaled, crop, strict=True))
    mirrored = bool(generator.random() < flip)
    angle = int(generator.integers(-rotation, rotation + 1)) if rotation else 0
    return Window(scaled[0], scaled[1], top, left, crop[0], crop[1], mirrored, angle)


def rotated_positions(window: Window) -> tuple[np.ndarray, np.ndarray]:
    """(rows, columns) f64 each: y and x in the scaled source of the visible crop pixels' centres, not yet reflected.

    Pixel i spans i to i + 1, so that positions scale with the grid; those outside 0..scaled must be reflected.
    """
    rows, columns = window.visible
    middle_y, middle_x = window.scaled_height / 2, window.scaled_width / 2
    y = np.arange(window.top, window.top + rows)[:, None] + 0.5 - middle_y
    x = np.arange(window.left, window.left + columns) + 0.5 - middle_x
    angle = math.radians(window.angle)
    cos, sin = round(math.cos(angle), 15), round(math.sin(angle), 15)  # exactly 0 and 1 for right angles
    return (middle_y + cos * y) + sin * x, (middle_x + cos * x) - sin * y


def reflected(first: int, last: int, size: int) -> np.ndarray:
    """(last - first + 1,) i64: the pixels at first..last if 0..size-1 continues as its mirror image on both sides."""
    folded = np.arange(first, last + 1, dtype=np.int64) % (2 * size)
    return np.minimum(folded, 2 * size - 1 - folded)


def reflected_pixels(positions: np.ndarray, scaled: int, source: int) -> np.ndarray:
    """Positions of any shape f64 in 0..scaled -> i64 indices of the source pixels there, reflected about the edges."""
    indices = np.floor(positions * source / scaled).astype(np.int64)
    first = int(indices.min())
    return reflected(first, int(indices.max()), source)[indices - first]  # a table: modulo per pixel is slower


def crop_labels(labels: np.ndarray, window: Window, padding: int = VOID) -> np.ndarray:
    """(H,W) integers -> (height, width) of the same type, padded with ``padding``; nothing is interpolated."""
    rows, columns = window.visible
    height, width = labels.shape
    if window.angle:
        y, x = rotated_positions(window)
        y, x = reflected_pixels(y, window.scaled_height, height), reflected_pixels(x, window.scaled_width, width)
    else:
        y = source_indices(window.top, rows, window.scaled_height, height)[:, None]
        x = source_indices(window.left, columns, window.scaled_width, width)
    out = np.full((window.height, window.width), padding, dtype=labels.dtype)
    out[:rows, :columns] = labels[y, x]
    return np.ascontiguousarray(out[:, ::-1]) if window.mirrored else out


def scaled_part(image: np.ndarray, scaled: Size, top: int, left: int, rows: int, columns: int) -> np.ndarray:
    """(rows, columns, B) u8 of the image (H,W,B) u8 resized to ``scaled``; computes only that part."""
    height, width = image.shape[:2]
    if scaled == (height, width):
        return image[top : top + rows, left : left + columns]
    down, right = height / scaled[0], width / scaled[1]
    box = (left * right, top * down, min(width, (left + columns) * right), min(height, (top + rows) * down))

    def resized(part: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(part).resize((columns, rows), Image.Resampling.BILINEAR, box=box))

    return by_band(image, resized)


def rotated_part(image: np.ndarray, window: Window) -> np.ndarray:
    """(rows, columns, B) u8: the visible part of a rotated window, from the image (H,W,B) u8.

    The image is resized first, as without rotation, but only the part that the rotated crop needs; then one bilinear
    sampling rotates it. Pillow's own rotation rounds down, which would darken the image by half a grey level.
    """
    scaled = window.scaled_height, window.scaled_width
    positions, tables = rotated_positions(window), []
    grid = torch.empty((1, *window.visible, 2))
    for axis, (place, size) in enumerate(zip(positions, scaled, strict=True)):
        first = math.floor(place.min() - 0.5)  # bilinear: the pixels whose centres lie on either side
        last = math.floor(place.max() - 0.5) + 1
        tables.append(reflected(first, last, size))
        grid[0, ..., 1 - axis] = torch.from_numpy((place - first) * (2 / (last - first + 1)) - 1)
    (top, left), (bottom, right) = ([int(end(table)) for table in tables] for end in (np.min, np.max))
    part = scaled_part(image, scaled, top, left, bottom + 1 - top, right + 1 - left)
    part = part.take(tables[0] - top, axis=0).take(tables[1] - left, axis=1)
    planes = torch.from_numpy(part.transpose(2, 0, 1).astype(np.float32, order="C"))
    found = F.grid_sample(planes[None], grid, mode="bilinear", padding_mode="border", align_corners=False)[0]
    return found.round_().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def crop_image(image: np.ndarray, window: Window, colour: tuple[int, ...]) -> np.ndarray:
    """(H,W,B) u8 -> (height, width, B) u8, bilinear (area-weighted when shrinking), padded with ``colour``."""
    rows, columns = window.visible
    if window.angle:
        seen = rotated_part(image, window)
    else:
        scaled = window.scaled_height, window.scaled_width
        seen = scaled_part(image, scaled, window.top, window.left, rows, columns)
    if (rows, columns) == (window.height, window.width):
        out = seen
    else:
        out = np.empty((window.height, window.width, image.shape[2]), dtype=np.uint8)
        out[:] = colour
        out[:rows, :columns] = seen
    return np.ascontiguousarray(out[:, ::-1] if window.mirrored else out)
