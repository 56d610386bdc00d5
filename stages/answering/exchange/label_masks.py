"""Masks of other programs as labels: by value or colour, with a value that means not labelled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.answering.exchange.label_names import OMITTED, LabelNames
from stages.datasets.labelmap import read_labelmap
from stages.datasets.mask_files import read_mask
from stages.images.image_files import image_file
from stages.pixels.void import VOID
from stages.runtime.errors import BadInput

LABELS = "labelmap.txt"
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class MaskReader:
    """Reads masks as values of labels; ``ignored`` are values and colours that the dataset's masks have for void.

    ``unlabelled`` is a value, a colour as #rrggbb, or a name of the label map.
    """

    names: LabelNames
    palette: np.ndarray
    ignored: Sequence[int | Colour]
    unlabelled: str | None

    def read(self, path: Path, labelmap: Mapping[int, str]) -> np.ndarray:
        """(H,W) i16: class, `VOID`, or `OMITTED` where the mask is not labelled.

        Colours are named by ``labelmap`` (packed colour -> name) if it has any; otherwise palettes are numbers, and
        colours those of the dataset.
        """
        coloured, pixels = as_stored(path, bool(labelmap))
        found, inverse, counts = np.unique(pixels, return_inverse=True, return_counts=True)
        pairs = zip(found.tolist(), counts.tolist(), strict=True)
        values = [
            self.of_colour(value, labelmap, count) if coloured else self.of_number(value, count)
            for value, count in pairs
        ]
        return np.array(values, dtype=np.int16)[inverse].reshape(pixels.shape)

    def of_number(self, value: int, count: int) -> int:
        if self.unlabelled is not None and self.unlabelled.strip() == str(value):
            return OMITTED
        return self.names.mask_value(value, [each for each in self.ignored if isinstance(each, int)], count)

    def of_colour(self, packed: int, labelmap: Mapping[int, str], count: int) -> int:
        text = f"#{packed:06x}"
        name = labelmap.get(packed, text)
        if self.unlabelled is not None and self.unlabelled.strip().casefold() in (text, name.casefold()):
            return OMITTED
        colour: Colour = (packed >> 16, packed >> 8 & 255, packed & 255)
        if labelmap or text in self.names.table:
            return self.names.value(name, count)
        if colour in self.ignored:
            return VOID
        same = np.flatnonzero((self.palette == np.array(colour)).all(1))
        return int(same[0]) if len(same) else self.names.value(text, count)


def as_stored(path: Path, named: bool) -> tuple[bool, np.ndarray]:
    """Whether a mask is coloured, and its values or packed colours (H,W); palettes are coloured if ``named``."""
    with image_file(path) as image:
        mode = image.mode
    if mode not in ("RGB", "RGBA") and not (mode == "P" and named):
        return False, read_mask(path, "index")
    red, green, blue = np.moveaxis(read_mask(path, "color").astype(np.int32), -1, 0)
    if not named and (red == green).all() and (green == blue).all():
        return False, red
    return True, red << 16 | green << 8 | blue


def labelmap_of(path: Path) -> dict[int, str]:
    """Packed colour -> name in the label map in the folder of a mask, or in the one above; empty without one."""
    for folder in path.absolute().parents[:2]:
        file = folder / LABELS
        if file.is_file():
            return read_labelmap(file)
    return {}


def require_class(path: Path, values: np.ndarray) -> None:
    """BadInput for a mask without a single class."""
    if not ((values >= 0) & (values != VOID)).any():
        raise BadInput(f"{path} has no pixel of a class. Check its values, or remove it.")
