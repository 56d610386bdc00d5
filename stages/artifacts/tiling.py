"""Where the images of a dataset lie in the larger files that they were cut from."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from stages.artifacts.hdf5 import Artifact, Writer
from stages.artifacts.structure import Array
from stages.pixels.boxes import Box, MapGrid
from stages.pixels.grids import Size

MOST_PAIRS = 1 << 22  # points times tiles that are compared at once
TILING = (
    Array("tiles/source", ("i",), ("N",), low=0, below="sources", optional=True),
    Array("tiles/y", ("i",), ("N",), low=0, optional=True),
    Array("tiles/x", ("i",), ("N",), low=0, optional=True),
    Array("tiles/height", ("i",), ("N",), low=1, optional=True),
    Array("tiles/width", ("i",), ("N",), low=1, optional=True),
    Array("sources/id", ("S",), ("sources",), unique=True, optional=True),
    Array("sources/file", ("S",), ("sources",), optional=True),
    Array("sources/height", ("i",), ("sources",), low=1, optional=True),
    Array("sources/width", ("i",), ("sources",), low=1, optional=True),
    Array("sources/crs", ("S",), ("sources",), optional=True),
    Array("sources/transform", ("f8",), ("sources", 6), nan=True, optional=True),
)


@dataclass(frozen=True)
class Tiling:
    """The original files (sources) of a dataset of tiles, and the place of each tile.

    ids, files (names), sizes (height, width) and map_grids per source; source (N,) i32 and boxes (N,4) i32 (y, x,
    height, width) in pixels of the source, in the order of the images of the dataset.
    """

    ids: list[str]
    files: list[str]
    sizes: list[Size]
    map_grids: list[MapGrid | None]
    source: np.ndarray
    boxes: np.ndarray

    @cached_property
    def places(self) -> dict[str, int]:
        return {source: place for place, source in enumerate(self.ids)}

    def box(self, tile: int) -> Box:
        return Box(*self.boxes[tile].tolist())

    def of_source(self, source: str) -> np.ndarray:
        """The tiles of a source, as places among the images of the dataset, in their order."""
        return np.flatnonzero(self.source == self.places[source])

    def in_source(self, tile: np.ndarray, y: np.ndarray, x: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """(Q,2) i64 row and column in the source of pixels (y,x), each (Q,) int, of images or grids of ``sizes`` (Q,2).

        ``tile`` (Q,) are places among the images of the dataset. The pixel under the centre of each pixel.
        """
        boxes = self.boxes[tile].astype(np.int64)
        centres = 2 * np.stack([y, x], 1).astype(np.int64) + 1
        return boxes[:, :2] + centres * boxes[:, 2:] // (2 * np.asarray(sizes, dtype=np.int64))

    def in_tiles(
        self, source: np.ndarray, row: np.ndarray, column: np.ndarray, sizes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The tile (P,) of each pixel of a source, and its row and column there, all i64; -1 where no tile has it.

        ``source`` (P,) are places in ``ids``; row and column (P,) int. ``sizes`` (N,2): of all images as stored. Of
        several tiles, the one whose border is farthest away.
        """
        tile = np.full(len(source), -1, dtype=np.int64)
        for place in np.unique(source):
            candidates = np.flatnonzero(self.source == place)
            points = np.flatnonzero(source == place)
            for part in np.array_split(points, -(-len(points) * len(candidates) // MOST_PAIRS)):
                tile[part] = self.farthest_inside(candidates, row[part], column[part])
        boxes, stored = self.boxes[tile].astype(np.int64), np.asarray(sizes, dtype=np.int64)[tile]
        inside = np.stack([row, column], 1).astype(np.int64) - boxes[:, :2]
        found = np.where(tile[:, None] < 0, -1, inside * stored // boxes[:, 2:])
        return tile, found[:, 0], found[:, 1]

    def farthest_inside(self, candidates: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """The one of the tiles ``candidates`` (K,) in which each point (P,) is farthest from the border; -1: none."""
        boxes = self.boxes[candidates].astype(np.int64)
        points = np.stack([row, column], 1)[:, None]
        before, after = points - boxes[:, :2], boxes[:, :2] + boxes[:, 2:] - 1 - points
        margin = np.minimum(before, after).min(-1)
        best = margin.argmax(1)
        return np.where(margin.max(1, initial=-1) >= 0, candidates[best], -1)

    def columns(self, tile: np.ndarray, y: np.ndarray, x: np.ndarray, sizes: np.ndarray) -> dict[str, list[Any]]:
        """Columns of a table of the pixels that `in_source` takes: source, source_row and source_column.

        If a source lies on the Earth, also map_x and map_y: the centre of the pixel in its coordinate system.
        """
        places, source = self.in_source(tile, y, x, sizes), self.source[tile]
        found = {
            "source": [self.ids[each] for each in source.tolist()],
            "source_row": places[:, 0].tolist(),
            "source_column": places[:, 1].tolist(),
        }
        if any(self.map_grids):
            nowhere = (np.nan,) * 6
            transforms = np.array([each.transform if each else nowhere for each in self.map_grids])[source]
            across, down = places[:, 1] + 0.5, places[:, 0] + 0.5
            for name, first in (("map_x", 0), ("map_y", 3)):
                values = transforms[:, first] * across + transforms[:, first + 1] * down + transforms[:, first + 2]
                found[name] = [None if np.isnan(value) else value for value in values.tolist()]
        return found


def write_tiling(writer: Writer, tiling: Tiling) -> None:
    """`/tiles/{source,y,x,height,width}` (N,) and `/sources/{id,file,height,width,crs,transform}`."""
    writer.array("tiles/source", tiling.source)
    for column, name in enumerate(Box._fields):
        writer.array(f"tiles/{name}", np.ascontiguousarray(tiling.boxes[:, column]))
    writer.strings("sources/id", tiling.ids)
    writer.strings("sources/file", tiling.files)
    for column, name in enumerate(("height", "width")):
        writer.array(f"sources/{name}", np.array([size[column] for size in tiling.sizes], dtype=np.int32))
    writer.strings("sources/crs", [found.crs if found else "" for found in tiling.map_grids])
    transforms = [found.transform if found else (np.nan,) * 6 for found in tiling.map_grids]
    writer.array("sources/transform", np.array(transforms, dtype=np.float64).reshape(-1, 6))


def read_tiling(artifact: Artifact) -> Tiling | None:
    """The tiling of a dataset; None if it was prepared without tiles."""
    if "tiles/source" not in artifact:
        return None
    source, boxes = artifact.read("tiles/source"), [artifact.read(f"tiles/{name}") for name in Box._fields]
    heights, widths = (artifact.read(f"sources/{name}").tolist() for name in ("height", "width"))
    crs, transforms = artifact.strings("sources/crs"), artifact.read("sources/transform")
    map_grids = [
        None if np.isnan(each).any() else MapGrid(name, tuple(each.tolist()))
        for name, each in zip(crs, transforms, strict=True)
    ]
    found = Tiling(
        artifact.strings("sources/id"),
        artifact.strings("sources/file"),
        list(zip(heights, widths, strict=True)),
        map_grids,
        source,
        np.stack(boxes, 1),
    )
    ends = found.boxes[:, :2].astype(np.int64) + found.boxes[:, 2:]
    if (ends > np.array(found.sizes, dtype=np.int64).reshape(-1, 2)[source]).any():
        raise artifact.invalid("tiles/y", "and tiles/x place a tile outside its source")
    return found
