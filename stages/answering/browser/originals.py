"""The files that the images of a dataset were made of, to look at them closer than the network does."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import Image

from stages.artifacts.dataset import Dataset
from stages.datasets.decode import read_image
from stages.datasets.encode import FAST, png_bytes
from stages.datasets.image_files import image_file
from stages.datasets.survey import ENDINGS
from stages.pixels.grids import Size
from stages.runtime.errors import BadInput

TILE = 512  # side, in pixels
MOST_LEVEL = 8  # of tiles: each level has half the sides of the one before
MOST_PIXELS = 1 << 27  # of an original that is shown
KEPT = 2  # decoded originals in memory
COMPARED = 32  # sides of the pictures that are compared
MOST_DIFFERENCE = 12.0  # of the levels of an original and of the dataset's image, on average
ROTATED = range(5, 9)  # EXIF orientations that exchange the sides
ORIENTATION = 0x0112


@dataclass
class Originals:
    """The original file of each image of ``data`` that has one, by id.

    An original that is not larger than the dataset's image, is damaged, or shows something else, counts as absent.
    """

    data: Dataset
    files: Mapping[str, Path]
    sizes: dict[str, Size | None] = field(default_factory=dict)  # of those that were looked at
    lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self.read = lru_cache(KEPT)(self.decode)

    def size(self, image: str) -> Size | None:
        """Height and width of the original; None if there is none to show."""
        if image not in self.sizes:
            self.sizes[image] = self.find_size(image)
        return self.sizes[image]

    def find_size(self, image: str) -> Size | None:
        if image not in self.files:
            return None
        try:
            with image_file(self.files[image]) as picture:
                width, height = picture.size
                if picture.getexif().get(ORIENTATION) in ROTATED:
                    width, height = height, width
        except BadInput:
            return None
        stored = self.data.sizes[image]
        larger = height > stored[0] and width > stored[1]
        return (height, width) if larger and height * width <= MOST_PIXELS else None

    def decode(self, image: str) -> np.ndarray | None:
        """(H,W,3) u8 of the original; None if it cannot be read, or is not what the dataset's image was made of."""
        try:
            pixels = read_image(self.files[image])
        except BadInput:
            return None
        if pixels.shape[:2] != self.size(image):
            return None
        small = [reduced(each) for each in (pixels, self.data.image(image))]
        return pixels if np.abs(small[0] - small[1]).mean() <= MOST_DIFFERENCE else None

    def tile(self, image: str, level: int, row: int, column: int) -> bytes | None:
        """A part of the original as PNG, `TILE` pixels wide at 1 / 2**level of its sides; None if there is none."""
        size, side = self.size(image), TILE << level
        if size is None or level > MOST_LEVEL or row * side >= size[0] or column * side >= size[1]:
            return None
        with self.lock:  # one is decoded at a time, once
            pixels = self.read(image)
        if pixels is None:
            self.sizes[image] = None
            return None
        part = pixels[row * side : (row + 1) * side, column * side : (column + 1) * side]
        if level:
            part = np.asarray(Image.fromarray(part).reduce(1 << level))
        return png_bytes(np.ascontiguousarray(part), level=FAST)


def reduced(pixels: np.ndarray) -> np.ndarray:
    """An image (H,W,3) u8 at (32,32,3) f32."""
    small = Image.fromarray(pixels).resize((COMPARED, COMPARED), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)


def find_originals(data: Dataset, folder: str | None) -> Originals:
    """The originals in ``folder``, or in the folder that ``data`` was prepared from, if it is still there.

    BadInput if the folder was passed and contains none of the images.
    """
    source = data.header.inputs.get("source")
    root = Path(folder) if folder is not None else Path(source.file) if source is not None else None
    files = {} if root is None or not root.is_dir() else named_files(root, data.all_ids)
    if folder is not None and not files:
        raise BadInput(
            f"{folder} contains no originals of {data.path}. Pass the folder whose image files are named like its "
            f"images, such as {data.all_ids[0]}."
        )
    return Originals(data, files)


def named_files(root: Path, ids: Iterable[str]) -> dict[str, Path]:
    """The image file of each id: named like it below ``root``, or alone in its name in the folders below."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in ENDINGS and path.is_file():
            parts = path.relative_to(root).with_suffix("").parts
            for first in range(len(parts)):
                found["/".join(parts[first:])].append(path)
    files = {}
    for image in ids:
        exact = [path for path in found[image] if path.relative_to(root).with_suffix("").as_posix() == image]
        fitting = exact or found[image]
        if len(fitting) == 1:
            files[image] = fitting[0]
    return files
