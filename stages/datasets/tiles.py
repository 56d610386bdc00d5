"""Cutting large images into tiles: where the tiles of an image lie, and which of them stay together in a split.

Tiles start at multiples of the size less the overlap; the last of a row or column is moved inwards, so that all tiles
have the same size. A block is a rectangle of tiles that go to one split. A tile that reaches into a block of another
split is cut at its border, or left out if that leaves less than half of a side: no pixel is in two splits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from stages.datasets.fields import Fraction, Table
from stages.pixels.boxes import Box
from stages.pixels.grids import Size


def _both_sides(value: Any) -> Any:
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


TileSide = Annotated[int, Field(strict=True, ge=32, le=8192)]


class Tiles(Table):
    """How images are cut: ``size`` (height, width) and ``overlap`` of neighbours in pixels.

    ``block``: n x n tiles go to one split when images are divided; None: all of an image do. ``keep``: the least share
    of pixels with data of a tile; those without any are always left out.
    """

    size: Annotated[tuple[TileSide, TileSide], BeforeValidator(_both_sides)]
    overlap: Annotated[int, Field(strict=True, ge=0)] = 0
    block: Annotated[int, Field(strict=True, ge=1)] | None = None
    keep: Fraction = 0.5

    @model_validator(mode="after")
    def _check_overlap(self) -> Self:
        if self.overlap * 2 > min(self.size):
            raise ValueError(f"overlap = {self.overlap} is more than half of a tile. Choose a smaller one.")
        return self


@dataclass(frozen=True)
class Tile:
    """A part of the image ``source`` of ``size`` (height, width)."""

    source: str
    size: Size
    box: Box

    @property
    def id(self) -> str:
        return f"{self.source}_y{self.box.y:05d}_x{self.box.x:05d}"


def tile_starts(length: int, side: int, overlap: int) -> list[int]:
    """First pixels of the tiles that cover a side of ``length``."""
    step = side - overlap
    count = max(1, -(-(length - side) // step) + 1)
    return [min(index * step, max(0, length - side)) for index in range(count)]


Block = tuple[int, int]
"""Row and column of a block among the blocks of its image."""


def grid_boxes(size: Size, tiles: Tiles) -> dict[Box, Block]:
    """The tiles of an image of ``size`` from the top down, and the block of each; (0, 0) if there are no blocks."""
    rows, columns = (tile_starts(*each, tiles.overlap) for each in zip(size, tiles.size, strict=True))
    height, width = (min(each) for each in zip(size, tiles.size, strict=True))
    block = tiles.block or max(len(rows), len(columns))
    return {
        Box(y, x, height, width): (row // block, column // block)
        for row, y in enumerate(rows)
        for column, x in enumerate(columns)
    }


def cut_between_splits(boxes: Mapping[Box, Block], splits: Mapping[Block, str]) -> dict[Box, Box]:
    """What remains of each tile of `grid_boxes`: up to the first pixel of a block that is not in its split.

    ``splits``: of the blocks with data; the others are in none. Tiles of which too little remains are left out.
    """
    tops: dict[int, int] = {}
    lefts: dict[int, int] = {}
    for box, (row, column) in boxes.items():
        tops.setdefault(row, box.y)
        lefts.setdefault(column, box.x)
    found = {}
    for box, (row, column) in boxes.items():
        if (row, column) not in splits:
            continue
        split = splits[row, column]
        below = [(each, top - box.y) for each, top in tops.items() if each > row and top < box.y + box.height]
        right = [(each, left - box.x) for each, left in lefts.items() if each > column and left < box.x + box.width]
        height = min((at for each, at in below if splits.get((each, column)) != split), default=box.height)
        width = min((at for each, at in right if splits.get((row, each)) != split), default=box.width)
        corners = ((down, across) for down in below for across in right if down[1] < height)
        others = (across[1] for down, across in corners if splits.get((down[0], across[0])) != split)
        width = min(width, *others, box.width)
        if height * 2 >= box.height and width * 2 >= box.width:
            found[box] = Box(box.y, box.x, height, width)
    return found
