"""Squares, whatever the image shows."""

from math import ceil, sqrt

import numpy as np

from stages.regions.cutters import CountSettings, cutter


@cutter("grid", settings=CountSettings)
def grid(pixels: np.ndarray, settings: CountSettings) -> np.ndarray:
    """Squares, numbered by row from the top left and clipped at the edges of the image.

    (H,W,3) u8 -> (H,W) i32; the side of a square is a whole number of pixels.
    """
    height, width = pixels.shape[:2]
    side = max(1, round(sqrt(height * width / settings.number(height, width))))
    rows, columns = np.arange(height, dtype=np.int32) // side, np.arange(width, dtype=np.int32) // side
    return rows[:, None] * ceil(width / side) + columns
