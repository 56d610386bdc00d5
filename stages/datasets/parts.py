"""Parts of large images, read as whole ones are: their bands and levels."""

import numpy as np

from stages.images.image_files import Contents
from stages.images.levels import scaled
from stages.images.rasters import Raster
from stages.images.reading import Reading, picked, require_readable


def part_values(pixels: np.ndarray, raster: Raster, reading: Reading) -> np.ndarray:
    """The bands (h,w,B) that ``reading`` names of all bands of a part, before levels; without it those of colours.

    BadInput if it leaves open how the file is to be read.
    """
    if reading.bands is None and raster.palette is not None and raster.dtype == np.uint8:
        return raster.palette[pixels[..., 0]]
    shown = pixels if reading.bands is not None else pixels[..., raster.colour_bands]
    require_readable(raster.path, Contents("", raster.size, shown.shape[2], raster.dtype), reading)
    return picked(shown, reading.bands)


def read_part(pixels: np.ndarray, raster: Raster, reading: Reading) -> np.ndarray:
    """All bands (h,w,B) of a part of ``raster`` as `read_image` reads a whole image, (h,w,B) u8."""
    values = part_values(pixels, raster, reading)
    return values if reading.levels is None else scaled(values, reading.levels, raster.nodata)
