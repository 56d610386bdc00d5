"""Masks too large to be in memory: a tiled, compressed GeoTIFF, written from the top down."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from stages.artifacts.publish import publishing, require_space
from stages.images.rasters import gdal
from stages.pixels.boxes import MapGrid
from stages.pixels.grids import Size
from stages.runtime.errors import StageFailed

SIDE = 512  # of the tiles of the file
LEAST_COMPRESSION = 4  # how much smaller masks become at least; the free space is checked for that


@contextmanager
def tiled_file(
    path: Path, size: Size, palette: np.ndarray | None, map_grid: MapGrid | None, nodata: int | None, about: str
) -> Iterator[Callable[[np.ndarray], None]]:
    """Gives a function that adds rows: (n,W) u8 indices of ``palette`` (256,3) u8, or (n,W,3) u8 colours without one.

    The file appears as ``path`` when all rows are written and the block ends without an exception. ``about`` is kept in
    it as the software that wrote it. StageFailed if the disk is full.
    """
    bands = 1 if palette is not None else 3
    height, width = size
    require_space(path.parent, height * width * bands // LEAST_COMPRESSION, f"Writing {path.name}")
    profile = {"driver": "GTiff", "height": height, "width": width, "count": bands, "dtype": "uint8", "nodata": nodata}
    layout: dict[str, Any] = {
        "tiled": True,
        "blockxsize": SIDE,
        "blockysize": SIDE,
        "compress": "deflate",
        "bigtiff": "if_safer",
    }
    if palette is None:
        layout["photometric"] = "rgb"
    with publishing(path) as partial, gdal():
        import rasterio
        from rasterio.errors import RasterioError
        from rasterio.transform import Affine

        if map_grid is not None:
            layout |= {"crs": map_grid.crs or None, "transform": Affine(*map_grid.transform)}
        try:
            with rasterio.open(partial, "w", **profile, **layout) as file:
                file.update_tags(TIFFTAG_SOFTWARE=about)
                if palette is not None:
                    file.write_colormap(1, {value: (*colour, 255) for value, colour in enumerate(palette.tolist())})
                yield RowWriter(file, size).add
        except RasterioError as error:
            raise StageFailed(f"Could not write {path}: {error}. Nothing was published.") from error


def about_tiled(path: Path) -> str:
    """What `tiled_file` kept about the mask in ``path``; empty for all other files."""
    import rasterio
    from rasterio.errors import RasterioError

    try:
        with gdal(), rasterio.open(path, driver="GTiff") as file:
            return str(file.tags().get("TIFFTAG_SOFTWARE", ""))
    except RasterioError:
        return ""


class RowWriter:
    """Writes rows to an open file in whole rows of its tiles, each of which is compressed once."""

    def __init__(self, file: Any, size: Size):
        self.file, self.size = file, size
        self.top, self.count = 0, 0
        self.waiting: list[np.ndarray] = []

    def add(self, rows: np.ndarray) -> None:
        self.waiting.append(rows)
        self.count += len(rows)
        if self.count >= SIDE or self.top + self.count == self.size[0]:
            self.write(self.count if self.top + self.count == self.size[0] else self.count // SIDE * SIDE)

    def write(self, number: int) -> None:
        from rasterio.windows import Window

        rows = np.concatenate(self.waiting)
        self.waiting, self.count = [rows[number:]], self.count - number
        bands = rows[None, :number] if rows.ndim == 2 else rows[:number].transpose(2, 0, 1)
        self.file.write(bands, window=Window(0, self.top, self.size[1], number))
        self.top += number
