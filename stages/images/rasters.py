"""Large images, read window by window: what a file holds without decoding it, and the pixels of a part of it.

TIFF, JPEG 2000, VRT and slides are read by rasterio (GDAL), which decodes only what a window touches. Other formats
have no windows: Pillow decodes them whole, up to its limit.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ImageOps

from stages.images.image_files import ENDINGS, Contents, contents, gdal, image_file, image_paths, tiff_tags
from stages.pixels.boxes import Box, MapGrid
from stages.pixels.grids import Size, read_place
from stages.runtime.errors import BadInput

DRIVERS = {".tif": "GTiff", ".tiff": "GTiff", ".svs": "GTiff", ".jp2": "JP2OpenJPEG", ".j2k": "JP2OpenJPEG"} | {
    ".vrt": "VRT"
}
"""The files that have windows, by their ending, and GDAL's name of their format."""
CORNER = 16  # pixels: side of the squares in the corners whose single colour is that of no data
ELSEWHERE = re.compile(rb"/vsi|://|<VRTDerived|PixelFunction", re.I)  # in a VRT: other computers, and code
MOST_AT_ONCE = 1 << 26  # pixels of images that are predicted in one piece
ORIENTATION = 274  # tag of a TIFF
MOST_VRT_BYTES = 1 << 26


@dataclass(kw_only=True)
class Raster:
    """An open image of any size, of which `pixels` decodes parts.

    ``alpha``: the place of the band that says which pixels have data. ``nodata``: the value of pixels without.
    ``palette`` (256,3) u8: the colours of the values of the only band.
    """

    path: Path
    size: Size
    bands: int
    dtype: np.dtype[Any]
    alpha: int | None = None
    nodata: float | None = None
    map_grid: MapGrid | None = None
    palette: np.ndarray | None = None

    def pixels(self, box: Box) -> np.ndarray:
        """(h,w,B) in the type of the file, all bands."""
        raise NotImplementedError

    def reduced(self, size: Size) -> np.ndarray:
        """(h,w,B): pixels of the whole image, evenly spaced."""
        raise NotImplementedError

    def with_data(self, box: Box, pixels: np.ndarray) -> np.ndarray:
        """(h,w) bool: the pixels with data among ``pixels`` (h,w,B) of ``box``.

        By the alpha band or the value for no data; otherwise a colour that fills a corner of the image is none.
        """
        if self.alpha is not None:
            return pixels[..., self.alpha] > 0
        if self.nodata is not None:
            empty = np.isnan(pixels) if np.isnan(self.nodata) else pixels == self.nodata
            return ~empty.all(-1)
        found = np.ones(pixels.shape[:2], dtype=bool)
        for colour in self.fillings:
            found &= (pixels != colour).any(-1)
        return found

    @cached_property
    def fillings(self) -> list[np.ndarray]:
        """The colours (B,) that fill a corner of the image."""
        side = min(CORNER, *self.size)
        places = ((y, x) for y in {0, self.size[0] - side} for x in {0, self.size[1] - side})
        squares = [self.pixels(Box(y, x, side, side)).reshape(side * side, -1) for y, x in places]
        colours = {tuple(square[0].tolist()) for square in squares if (square == square[0]).all()}
        return [np.array(colour, dtype=self.dtype) for colour in sorted(colours)]

    @property
    def colour_bands(self) -> list[int]:
        """The places of the bands other than alpha."""
        return [band for band in range(self.bands) if band != self.alpha]


@dataclass(kw_only=True)
class DecodedRaster(Raster):
    """A file that Pillow decoded: ``whole`` (H,W,B), upright by its EXIF orientation."""

    whole: np.ndarray

    def pixels(self, box: Box) -> np.ndarray:
        return self.whole[box.rows, box.columns]

    def reduced(self, size: Size) -> np.ndarray:
        rows, columns = (read_place(np.arange(n), n, side) for n, side in zip(size, self.size, strict=True))
        return self.whole[rows[:, None], columns]


@dataclass(kw_only=True)
class WindowedRaster(Raster):
    """A file that GDAL reads by windows; ``has_mask``: it has a mask of its own, beside alpha and ``nodata``."""

    file: Any
    has_mask: bool

    def pixels(self, box: Box) -> np.ndarray:
        return bands_last(self.of_gdal(lambda window: self.file.read(window=window), box))

    def reduced(self, size: Size) -> np.ndarray:
        return bands_last(self.file.read(out_shape=(self.bands, *size)))

    def with_data(self, box: Box, pixels: np.ndarray) -> np.ndarray:
        found = super().with_data(box, pixels)
        if self.has_mask:
            found &= self.of_gdal(lambda window: self.file.read_masks(1, window=window), box) > 0
        return found

    def of_gdal(self, read: Callable[[Any], np.ndarray], box: Box) -> np.ndarray:
        from rasterio.errors import RasterioError
        from rasterio.windows import Window

        try:
            return read(Window(box.x, box.y, box.width, box.height))
        except RasterioError as error:
            raise damaged(self.path, error) from error


def bands_last(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values.transpose(1, 2, 0))


def has_windows(path: Path) -> bool:
    """Whether parts of the file can be decoded alone, by its ending."""
    return path.suffix.lower() in DRIVERS


def images_among(files: Iterable[Path]) -> list[Path]:
    """Those of ``files`` that are images by their endings, sorted; a VRT only names images."""
    inside = list(files)
    return sorted({*image_paths(inside), *(file for file in inside if needs_windows(file) and file.suffix != ".vrt")})


def needs_windows(path: Path) -> bool:
    """Whether only GDAL reads the file, by its ending."""
    return has_windows(path) and path.suffix.lower() not in ENDINGS


def is_large(path: Path) -> bool:
    """Whether a file has windows and more pixels than are read at once, or a format that is read by windows alone."""
    if not has_windows(path) or needs_windows(path):
        return has_windows(path)
    try:
        height, width = contents(path).size
    except BadInput:
        return False  # whoever reads it says why it cannot be read
    return height * width > MOST_AT_ONCE


@contextmanager
def open_raster(path: Path) -> Iterator[Raster]:
    """The image in ``path``, closed at the end; BadInput if it cannot be read, or if rasterio is needed and missing."""
    if not path.is_file():
        raise BadInput(f"{path} does not exist. Check --root and the description.")
    if not has_windows(path):
        yield decoded(path)
        return
    with gdal():
        import rasterio
        from rasterio.errors import RasterioError

        driver = DRIVERS[path.suffix.lower()]
        if driver == "VRT":
            require_local(path)
        try:
            file = rasterio.open(path, driver=driver)
        except RasterioError as error:
            raise damaged(path, error) from error
        with file:
            yield windowed(path, file)


def contents_of_file(path: Path) -> Contents:
    """See `contents`; also of the files that only GDAL reads."""
    if not needs_windows(path):
        return contents(path)
    with open_raster(path) as raster:
        return Contents(DRIVERS[path.suffix.lower()], raster.size, raster.bands, raster.dtype, 1, raster.nodata)


def map_grid_of(path: Path) -> MapGrid | None:
    """Where the pixels of a file lie on the Earth; None if it does not say so."""
    if not has_windows(path):
        return None
    with open_raster(path) as raster:
        return raster.map_grid


def decoded(path: Path) -> Raster:
    with image_file(path) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.mode in ("P", "PA", "CMYK", "YCbCr", "1"):
            transparent = upright.mode == "PA" or "transparency" in upright.info
            upright = upright.convert("RGBA" if transparent else "RGB" if upright.mode != "1" else "L")
        whole = np.atleast_3d(np.asarray(upright))
        alpha = whole.shape[2] - 1 if upright.mode in ("LA", "RGBA") else None
    height, width, bands = whole.shape
    return DecodedRaster(path=path, size=(height, width), bands=bands, dtype=whole.dtype, alpha=alpha, whole=whole)


def windowed(path: Path, file: Any) -> Raster:
    """An open file of rasterio; BadInput for several pictures, turned ones, and bands of different types."""
    from rasterio.enums import ColorInterp, MaskFlags

    require_one_picture(path, file)
    if len(set(file.dtypes)) > 1:
        raise BadInput(f"{path} has bands of different types ({', '.join(file.dtypes)}). Store them in one type.")
    if file.driver == "GTiff" and (turned := tiff_tags(path).get(ORIENTATION, 1)) != 1:
        raise BadInput(f"{path} is stored turned (TIFF orientation {turned}). Store it upright.")
    roles, flags = list(file.colorinterp), file.mask_flag_enums[0]
    placed = file.crs is not None or not file.transform.is_identity
    return WindowedRaster(
        path=path,
        size=(file.height, file.width),
        bands=file.count,
        dtype=np.dtype(file.dtypes[0]),
        alpha=roles.index(ColorInterp.alpha) if ColorInterp.alpha in roles else None,
        nodata=file.nodata,
        map_grid=MapGrid(file.crs.to_wkt() if file.crs else "", tuple(file.transform)[:6]) if placed else None,
        palette=palette_of(file) if roles == [ColorInterp.palette] else None,
        file=file,
        has_mask=MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags,
    )


def palette_of(file: Any) -> np.ndarray:
    """(256,3) u8 colours of the values of the first band."""
    table = np.zeros((256, 3), dtype=np.uint8)
    for value, colour in file.colormap(1).items():
        if value < 256:
            table[value] = colour[:3]
    return table


def require_one_picture(path: Path, file: Any) -> None:
    """BadInput for a file with several pictures, unless the others are smaller versions of the first one."""
    import rasterio

    if file.count == 0:
        raise BadInput(f"{path} contains {len(file.subdatasets)} pictures. Store each in a file of its own.")
    for name in file.subdatasets[1:]:
        with rasterio.open(name) as other:
            if other.height * other.width * 2 > file.height * file.width:
                raise BadInput(f"{path} contains {len(file.subdatasets)} pictures. Store each in a file of its own.")


def require_local(path: Path) -> None:
    """BadInput for a VRT that would open what is on other computers, or run code."""
    with path.open("rb") as file:
        text = file.read(MOST_VRT_BYTES)
    if ELSEWHERE.search(text):
        raise BadInput(f"{path} refers to files elsewhere or to functions, which are not opened. Use files beside it.")


def damaged(path: Path, error: Exception) -> BadInput:
    return BadInput(f"{path} cannot be read ({error}). Check that it is whole, or convert it to GeoTIFF.")
