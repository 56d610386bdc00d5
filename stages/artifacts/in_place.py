"""Images that stay in the files that others made, and what tells whether those files have changed.

A dataset prepared in place has, in the order of its index, `/index/file`, the path of each image's file below the
attribute root, and its `/index/{file_bytes,file_modified}`, size and time of the last change in ns.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.artifacts.hdf5 import Artifact, Writer
from stages.artifacts.structure import Array, Attribute
from stages.images.reading import Reading, read_image, recorded_reading
from stages.pixels.grids import Size
from stages.pixels.resize import resize_image
from stages.runtime.errors import BadInput
from stages.settings.common import Filter

ORIGINALS: tuple[Attribute | Array, ...] = (
    Attribute("root", optional=True),
    Array("index/file", ("S",), ("N",), unique=True, optional=True),
    Array("index/file_bytes", ("i",), ("N",), low=0, optional=True),
    Array("index/file_modified", ("i",), ("N",), optional=True),
)
AGAIN = "Put it back, or prepare the dataset again."


@dataclass(frozen=True)
class Original:
    """The file of an image below the root, its bytes, and the time of its last change in ns."""

    file: str
    bytes: int
    modified: int


def original_of(path: Path, root: Path) -> Original:
    """The file ``path`` as it is now."""
    found = path.stat()
    return Original(path.relative_to(root).as_posix(), found.st_size, found.st_mtime_ns)


def write_originals(writer: Writer, originals: list[Original]) -> None:
    """The tables of the files of all images, in the order of the index."""
    writer.strings("index/file", [each.file for each in originals])
    writer.array("index/file_bytes", np.array([each.bytes for each in originals], dtype=np.int64))
    writer.array("index/file_modified", np.array([each.modified for each in originals], dtype=np.int64))


@dataclass(frozen=True)
class Originals:
    """The files of a dataset's images, by the ids of these, and how pixels become images."""

    dataset: Path
    root: Path
    files: dict[str, Original]
    reading: Reading
    filter: Filter

    def image(self, image: str, size: Size) -> np.ndarray:
        """(H,W,B) u8, decoded and resized to ``size``; BadInput if the file is gone or is not what was prepared."""
        expected = self.files[image]
        path = self.root / expected.file
        try:
            found = original_of(path, self.root)
        except OSError as error:
            raise BadInput(f"{path}, an image of {self.dataset}, cannot be read ({error.strerror}). {AGAIN}") from error
        if found != expected:
            raise BadInput(f"{path} has changed since {self.dataset} was prepared from it. {AGAIN}")
        return resize_image(read_image(path, self.reading), *size, self.filter)


def read_originals(dataset: Artifact, ids: list[str], reading: dict[str, object]) -> Originals | None:
    """The files of the images ``ids``; None if the images are in the dataset."""
    if "index/file" not in dataset:
        return None
    root = dataset.attributes.get("root")
    if root is None or not Path(root).is_absolute():
        raise dataset.invalid("attribute root", "is not the path of the folder of its images")
    columns = zip(
        dataset.strings("index/file"),
        dataset.read("index/file_bytes").tolist(),
        dataset.read("index/file_modified").tolist(),
        strict=True,
    )
    files = {image: Original(*row) for image, row in zip(ids, columns, strict=True)}
    kind = dataset.header.settings.get("filter", "bilinear")
    return Originals(dataset.path, Path(root), files, recorded_reading(reading), kind)
