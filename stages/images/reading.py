"""How the pixels in image files become the images of a dataset: which picture, which bands, which levels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from stages.images.image_files import Contents, stored_pixels
from stages.images.levels import Histogram, Levels, listed_levels, scaled
from stages.pixels.bands import shown_bands
from stages.runtime.console import Progress
from stages.runtime.errors import BadInput

Image = TypeVar("Image")
Values = tuple[np.ndarray, float | None]
"""The bands of an image (H,W,B) as stored, and its value without data."""
UNSCALED = ((0.0, 1.0),)  # levels of a reading whose values are read but not scaled
ALPHA = 4  # bands of colours with an alpha channel, which is left out


@dataclass(frozen=True)
class Reading:
    """What a description says about reading images, and what a dataset and a model record of it.

    bands: numbers from 1, None: as viewers show the file, with three bands. levels: the values that become 0 and 255.
    page: the picture of a file with several, from 1. display: the bands shown as red, green and blue.
    """

    bands: tuple[int, ...] | None = None
    levels: Levels | None = None
    page: int | None = None
    display: tuple[int, ...] | None = None

    @property
    def count(self) -> int:
        """How many bands images have."""
        return 3 if self.bands is None else len(self.bands)

    def recorded(self) -> dict[str, Any]:
        """As JSON, without what is not set."""
        values = {
            "bands": self.bands and list(self.bands),
            "levels": self.levels and listed_levels(self.levels),
            "page": self.page,
            "display": self.display and list(self.display),
        }
        return {name: value for name, value in values.items() if value is not None}


AS_SHOWN = Reading()


def recorded_reading(values: Mapping[str, Any]) -> Reading:
    """The reading that `Reading.recorded` wrote."""
    bands, levels, display = (values.get(name) for name in ("bands", "levels", "display"))
    return Reading(
        None if bands is None else tuple(bands),
        None if levels is None else tuple((float(low), float(high)) for low, high in levels),
        values.get("page"),
        None if display is None else tuple(display),
    )


def measured_levels(images: Sequence[Image], read: Callable[[Image], Values], percentiles: Sequence[float]) -> Levels:
    """The values of each band at two ``percentiles`` of all pixels of ``images``, read one after the other.

    BadInput with the faults of all that cannot be read.
    """
    histogram, faults = Histogram(), []
    with Progress("measuring levels", len(images)) as bar:
        for image in images:
            try:
                histogram.add(*read(image))
            except BadInput as error:
                faults += error.faults
            bar.advance()
    if faults:
        raise BadInput(faults)
    return histogram.percentiles(percentiles)


def read_image(path: Path, reading: Reading = AS_SHOWN) -> np.ndarray:
    """The image in the file, (H,W,B) u8, upright by its EXIF orientation; as RGB unless ``reading`` names bands.

    Raises BadInput for a file that is unreadable or damaged, and for what ``reading`` leaves open: more bits than 8
    without levels, more bands than viewers show, several pictures.
    """
    pixels, nodata = read_values(path, reading)
    return pixels if reading.levels is None else scaled(pixels, reading.levels, nodata)


def read_values(path: Path, reading: Reading) -> Values:
    """The bands of an image (H,W,B) as stored, before its levels are applied, and its value without data.

    They are u8 if ``reading`` has no levels.
    """
    if not path.is_file():
        raise BadInput(f"{path} does not exist. Check --root and the description.")
    pixels, found = stored_pixels(path, reading.page, rgb=reading.bands is None)
    require_readable(path, found, reading)
    return picked(pixels, reading.bands), found.nodata


def require_readable(path: Path, found: Contents, reading: Reading) -> None:
    """BadInput, with the key that says how to read the file, if ``reading`` does not."""
    if found.is_deep and reading.levels is None:
        raise BadInput(
            f"{path} has more than 8 bits per channel ({found.dtype}). Set percentiles = [1, 99], or levels = [LOW, "
            "HIGH], under [images] in the description, or convert it to 8 bits."
        )
    if reading.bands is None and found.bands > ALPHA:
        raise BadInput(
            f'{path} has {found.bands} bands. Set bands = [3, 2, 1], or bands = "all", under [images] in the '
            "description."
        )
    if reading.bands is not None and max(reading.bands) > found.bands:
        raise BadInput(f"{path} has {found.bands} bands, but band {max(reading.bands)} is to be read. Correct bands.")


def picked(pixels: np.ndarray, bands: Sequence[int] | None) -> np.ndarray:
    """The ``bands`` of (H,W,B), numbered from 1; None: the three that are shown, of grey with or without alpha too."""
    if bands is not None:
        return np.ascontiguousarray(pixels[..., [band - 1 for band in bands]])
    return shown_bands(pixels, None)


def displayed(image: np.ndarray, reading: Reading = AS_SHOWN) -> np.ndarray:
    """(H,W,B) u8 as RGB (H,W,3): the bands of ``display``, otherwise the first three, or the first as grey."""
    if reading.display is None or reading.bands is None:
        return shown_bands(image, None)
    return shown_bands(image, [reading.bands.index(band) for band in reading.display])
