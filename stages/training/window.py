"""Random scale, crop and flip: one window per sample, through which image and labels both are read.

The window defines one index map from crop pixels to source pixels (pixel centres). Labels are read through it by
nearest neighbour, the image by bilinear interpolation; there is no second mask that could get out of step.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from stages.artifacts.dataset import VOID


@dataclass(frozen=True)
class Window:
    """A crop of (height, width) at (top, left) of the source scaled to (scaled_height, scaled_width), maybe mirrored.

    Where the crop reaches beyond the scaled source (bottom and right only), it is padding.
    """

    scaled_height: int
    scaled_width: int
    top: int
    left: int
    height: int
    width: int
    mirrored: bool

    @property
    def visible(self) -> tuple[int, int]:
        """Rows and columns of the crop that are not padding."""
        return min(self.height, self.scaled_height - self.top), min(self.width, self.scaled_width - self.left)


@dataclass(frozen=True)
class Scales:
    """Scales from ``low`` to ``high``: any of them, or those a multiple of ``step`` above ``low`` (0: any)."""

    low: float
    high: float
    step: float = 0.0

    def choices(self) -> list[float]:
        """The scales of a positive step: 0.5 to 2 in steps of 0.25 are 7."""
        return [self.low + self.step * number for number in range(int((self.high - self.low) / self.step + 1e-9) + 1)]

    def draw(self, generator: np.random.Generator) -> float:
        return float(generator.choice(self.choices()) if self.step else generator.uniform(self.low, self.high))


def draw_window(
    size: tuple[int, int],
    crop: tuple[int, int],
    scales: Scales,
    flip: float,
    generator: np.random.Generator,
) -> Window:
    """A random window: both sides scaled by one random s, rounded down; uniform offsets; mirrored with ``flip``."""
    scale = scales.draw(generator)
    scaled = [max(1, int(side * scale + 1e-9)) for side in size]
    top, left = (int(generator.integers(0, max(0, big - small) + 1)) for big, small in zip(scaled, crop, strict=True))
    return Window(scaled[0], scaled[1], top, left, crop[0], crop[1], bool(generator.random() < flip))


def source_indices(start: int, count: int, scaled: int, source: int) -> np.ndarray:
    """(count,) i64 source index of crop positions start..: floor((i + 1/2) source / scaled), in exact arithmetic."""
    positions = np.arange(start, start + count, dtype=np.int64)
    return (2 * positions + 1) * source // (2 * scaled)


def crop_labels(labels: np.ndarray, window: Window, padding: int = VOID) -> np.ndarray:
    """(H,W) integers -> (height, width) of the same type, padded with ``padding``; nothing is interpolated."""
    rows, columns = window.visible
    y = source_indices(window.top, rows, window.scaled_height, labels.shape[0])
    x = source_indices(window.left, columns, window.scaled_width, labels.shape[1])
    out = np.full((window.height, window.width), padding, dtype=labels.dtype)
    out[:rows, :columns] = labels[y[:, None], x]
    return np.ascontiguousarray(out[:, ::-1]) if window.mirrored else out


def crop_image(image: np.ndarray, window: Window, colour: tuple[int, int, int]) -> np.ndarray:
    """(H,W,3) u8 -> (height, width, 3) u8, bilinear (area-weighted when shrinking), padded with ``colour``."""
    rows, columns = window.visible
    height, width = image.shape[:2]
    if (window.scaled_height, window.scaled_width) == (height, width):
        seen = image[window.top : window.top + rows, window.left : window.left + columns]
    else:
        down, right = height / window.scaled_height, width / window.scaled_width
        box = (
            window.left * right,
            window.top * down,
            min(width, (window.left + columns) * right),
            min(height, (window.top + rows) * down),
        )
        seen = np.asarray(Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR, box=box))
    if (rows, columns) == (window.height, window.width):
        out = seen
    else:
        out = np.empty((window.height, window.width, 3), dtype=np.uint8)
        out[:] = colour
        out[:rows, :columns] = seen
    return np.ascontiguousarray(out[:, ::-1] if window.mirrored else out)
