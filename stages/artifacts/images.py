"""Images of a dataset in several files of their own, which the dataset names.

`/images/<id>` and `/evaluation_images/<id>` as in a dataset, and the table
`/index/{id,height,width,evaluation_height,evaluation_width}` of the images in the file.

They lie in the folder `NAME.images` beside the dataset NAME, which has the table `/image_files/{file,digest}`: their
paths relative to the folder of the dataset, and their digests. `/index/image_file` is the row of each image there.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stages.artifacts.hdf5 import Artifact, Writer
from stages.artifacts.images_table import require_sides
from stages.artifacts.structure import Array, Extents
from stages.pixels.grids import Size
from stages.runtime.errors import BadInput

FOLDERS = ("images", "evaluation_images")
AGAIN = "Restore it from a copy, or prepare the dataset again."
NAMED = re.compile(r"[^/]+\.images/[0-9a-f]{12}-\d{3,}\.h5")
IMAGE_FILES: tuple[Array, ...] = (
    Array("image_files/file", ("S",), ("F",), unique=True, optional=True),
    Array("image_files/digest", ("S",), ("F",), optional=True),
    Array("index/image_file", ("i",), ("N",), low=0, below="F", optional=True),
)
INDEX: tuple[Array, ...] = (
    Array("index/id", ("S",), ("N",), unique=True),
    Array("index/height", ("i",), ("N",), low=1),
    Array("index/width", ("i",), ("N",), low=1),
    Array("index/evaluation_height", ("i",), ("N",), low=0, optional=True),
    Array("index/evaluation_width", ("i",), ("N",), low=0, optional=True),
)
PIXELS: tuple[Array, ...] = (
    Array("images/*", ("u1",), ("H", "W", "B")),
    Array("evaluation_images/*", ("u1",), ("evaluation_H", "evaluation_W", "B")),
)


class ImageFile(Artifact):
    """A file with images and a table of them, open for reading."""

    kind = "images"
    holds = (*INDEX, *PIXELS)

    def __init__(self, path: Path | str):
        super().__init__(path)
        self.all_ids = self.strings("index/id")
        heights, widths = self.read("index/height"), self.read("index/width")
        require_sides(self, "index", heights, widths)
        self.sizes = {
            image: (int(height), int(width)) for image, height, width in zip(self.all_ids, heights, widths, strict=True)
        }
        self.evaluation_sizes = self.read_evaluation_sizes()

    def read_evaluation_sizes(self) -> dict[str, Size]:
        """(height, width) of each image that is also kept at a size to evaluate at."""
        if "index/evaluation_height" not in self:
            return {}
        heights, widths = self.read("index/evaluation_height"), self.read("index/evaluation_width")
        if ((heights > 0) != (widths > 0)).any():
            raise self.invalid("index/evaluation_height", "and index/evaluation_width do not name the same images")
        sides = zip(self.all_ids, heights.tolist(), widths.tolist(), strict=True)
        return {image: (height, width) for image, height, width in sides if height}

    def image_extents(self, image: str) -> Extents:
        height, width = self.evaluation_sizes.get(image, (0, 0))
        return super().image_extents(image) | {"evaluation_H": height, "evaluation_W": width}


@dataclass(frozen=True)
class StoredFile:
    """A file with images: its path relative to the folder of the dataset, its digest, and the ids of its images."""

    file: str
    digest: str
    ids: list[str]


def image_folder(dataset: Path) -> Path:
    return dataset.with_name(dataset.name + ".images")


def write_image_files(writer: Writer, stored: Sequence[StoredFile], ids: Sequence[str]) -> None:
    """The tables of the files, and of the file of each of the images ``ids``, the index of the dataset."""
    rows = {image: row for row, each in enumerate(stored) for image in each.ids}
    writer.strings("image_files/file", [each.file for each in stored])
    writer.strings("image_files/digest", [each.digest for each in stored])
    writer.array("index/image_file", np.array([rows[image] for image in ids], dtype=np.int32))


@dataclass(frozen=True)
class ImageFiles:
    """The files that a dataset names, opened one by one as they are needed."""

    dataset: Path
    files: list[Path]
    digests: list[str]
    rows: dict[str, int]
    opened: dict[int, ImageFile] = field(default_factory=dict)

    def of(self, image: str) -> ImageFile:
        """The file that has ``image``; BadInput if it is missing or another one."""
        return self.file(self.rows[image])

    def file(self, row: int) -> ImageFile:
        if row not in self.opened:
            path = self.files[row]
            if not path.is_file():
                raise BadInput(
                    f"{path}, which has images of {self.dataset}, is missing. Copy the folder {path.parent.name} to "
                    "that of the dataset, or prepare it again."
                )
            found = ImageFile(path)
            if found.digest != self.digests[row]:
                found.close()
                raise BadInput(f"{path} is not the file that {self.dataset} was prepared with. {AGAIN}")
            self.opened[row] = found
        return self.opened[row]

    def close(self) -> None:
        for each in self.opened.values():
            each.close()
        self.opened.clear()


def read_image_files(dataset: Artifact, ids: Sequence[str]) -> ImageFiles | None:
    """The files of the images ``ids``; None if the dataset names none."""
    if "image_files/file" not in dataset:
        return None
    files, rows = dataset.strings("image_files/file"), dataset.read("index/image_file").tolist()
    for file in files:
        if not NAMED.fullmatch(file):
            raise dataset.invalid("image_files/file", f"names {file!r}, which is no file of images beside it")
    paths = [dataset.path.parent / file for file in files]
    return ImageFiles(dataset.path, paths, dataset.strings("image_files/digest"), dict(zip(ids, rows, strict=True)))
