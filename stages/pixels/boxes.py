"""Parts of images, and where images lie on the Earth."""

from typing import NamedTuple

import numpy as np

from stages.pixels.grids import Size, read_place


class Box(NamedTuple):
    """A part of an image: its first row and column, and its size."""

    y: int
    x: int
    height: int
    width: int

    @property
    def rows(self) -> slice:
        return slice(self.y, self.y + self.height)

    @property
    def columns(self) -> slice:
        return slice(self.x, self.x + self.width)


class MapGrid(NamedTuple):
    """Where pixels lie on the Earth.

    ``crs`` as WKT, empty if unknown. ``transform``: of the corners of pixels, x = a (column) + b (row) + c and
    y = d (column) + e (row) + f.
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]


def fill_reduced(small: np.ndarray, part: np.ndarray, box: Box, size: Size) -> None:
    """Writes ``part``, the pixels (h,w,...) in ``box`` of an image of ``size``, to where ``small`` reads them."""
    rows, columns = (read_place(np.arange(n), n, side) for n, side in zip(small.shape, size, strict=False))
    y = np.flatnonzero((rows >= box.y) & (rows < box.y + box.height))
    x = np.flatnonzero((columns >= box.x) & (columns < box.x + box.width))
    small[y[:, None], x] = part[rows[y][:, None] - box.y, columns[x] - box.x]
