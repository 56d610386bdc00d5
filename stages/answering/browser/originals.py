"""The files that the images of a dataset were made of, to look at them closer than the network does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import Image

from stages.artifacts.dataset import Dataset
from stages.datasets.encode import FAST, png_bytes
from stages.datasets.originals import original_files, source_folder
from stages.images.reading import displayed, read_image, recorded_reading
from stages.pixels.grids import Size
from stages.runtime.errors import BadInput

TILE = 512  # side, in pixels
MOST_LEVEL = 8  # of tiles: each level has half the sides of the one before
MOST_PIXELS = 1 << 27  # of an original that is shown
KEPT = 2  # decoded originals in memory
COMPARED = 32  # sides of the pictures that are compared
MOST_DIFFERENCE = 12.0  # of the levels of an original and of the dataset's image, on average


@dataclass
class Originals:
    """The size and the original file of each image of ``data`` that has one, by id.

    An original that is not larger than the dataset's image, is damaged, or shows something else, counts as absent.
    """

    data: Dataset
    files: Mapping[str, tuple[Size, Path]]
    useless: set[str] = field(default_factory=set)  # images whose original is damaged or shows something else
    lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self.read = lru_cache(KEPT)(self.decode)

    def size(self, image: str) -> Size | None:
        """Height and width of the original; None if there is none to show."""
        if image not in self.files or image in self.useless:
            return None
        (height, width), stored = self.files[image][0], self.data.sizes[image]
        larger = height > stored[0] and width > stored[1]
        return (height, width) if larger and height * width <= MOST_PIXELS else None

    def decode(self, image: str) -> np.ndarray | None:
        """(H,W,3) u8 of the original; None if it cannot be read, or is not what the dataset's image was made of."""
        reading = recorded_reading(self.data.reading)
        size, path = self.files[image]
        try:
            pixels = displayed(read_image(path, reading), reading)
        except BadInput:
            return None
        if pixels.shape[:2] != size:
            return None
        small = [reduced(each) for each in (pixels, self.data.rgb(image))]
        return pixels if np.abs(small[0] - small[1]).mean() <= MOST_DIFFERENCE else None

    def tile(self, image: str, level: int, row: int, column: int) -> bytes | None:
        """A part of the original as PNG, `TILE` pixels wide at 1 / 2**level of its sides; None if there is none."""
        size, side = self.size(image), TILE << level
        if size is None or level > MOST_LEVEL or row * side >= size[0] or column * side >= size[1]:
            return None
        with self.lock:  # one is decoded at a time, once
            pixels = self.read(image)
        if pixels is None:
            self.useless.add(image)
            return None
        part = pixels[row * side : (row + 1) * side, column * side : (column + 1) * side]
        if level:
            part = np.asarray(Image.fromarray(part).reduce(1 << level))
        return png_bytes(np.ascontiguousarray(part), level=FAST)


def reduced(pixels: np.ndarray) -> np.ndarray:
    """An image (H,W,3) u8 at (32,32,3) f32."""
    small = Image.fromarray(pixels).resize((COMPARED, COMPARED), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)


def find_originals(data: Dataset, folder: str | None, ids: Sequence[str]) -> Originals:
    """The originals of the images ``ids`` in ``folder``, or in the folder that ``data`` was prepared from.

    BadInput if the folder was passed and contains none of them.
    """
    if folder is None:
        root = source_folder(data) if data.is_resized and data.tiling is None else None
        try:
            return Originals(data, {} if root is None else original_files(data, root, ids))
        except BadInput:  # such as two files that could be the same image: nobody asked for them
            return Originals(data, {})
    root = Path(folder)
    files = original_files(data, root, ids) if root.is_dir() else {}
    if not files:
        raise BadInput(
            f"{folder} contains no originals of {data.path}. Pass the folder with the image files that it was prepared "
            "from."
        )
    return Originals(data, files)
