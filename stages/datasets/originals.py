"""The files that the images of a dataset were made from: how large they are, and whether something is as large."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from stages.artifacts.dataset import Dataset
from stages.datasets.image_names import image_of, known_names
from stages.datasets.shapes.files import files_below
from stages.datasets.survey import told_size
from stages.images.image_files import ENDINGS
from stages.images.rasters import contents_of_file
from stages.pixels.grids import Size
from stages.pixels.resize import target_size
from stages.runtime.errors import BadInput
from stages.settings.prepare import RESIZING


def is_original(data: Dataset, image: str, size: Size) -> bool:
    """Whether ``size`` is that of ``image``, or one that `prepare` resized to it."""
    scale, long_side, exact = (data.header.settings.get(name) for name in RESIZING)
    resized = target_size(*size, scale, long_side, None if exact is None else tuple(exact))
    return data.sizes[image] in (tuple(size), resized)


def require_original(data: Dataset, image: str, size: Size, where: str) -> None:
    """BadInput unless ``size`` is that of ``image`` in the dataset or in its file."""
    if not is_original(data, image, size):
        raise BadInput(
            f"{where} has a size of {told_size(size)}, but image {image} has {told_size(data.sizes[image])}. Use the "
            "images of the dataset, or its original files."
        )


def source_folder(data: Dataset) -> Path | None:
    """The folder that the dataset was prepared from, if it is still there."""
    source = data.header.inputs.get("source")
    folder = None if source is None else Path(source.file)
    return folder if folder is not None and folder.is_dir() else None


def original_files(data: Dataset, folder: Path, ids: Sequence[str]) -> dict[str, tuple[Size, Path]]:
    """(height, width), upright, and path of the original files below ``folder``, for those of ``ids`` that have one.

    Files belong to images by their names; of several with one name, those count that `prepare` could have resized to
    the image. BadInput if these have different sizes.
    """
    known, wanted = known_names(data.all_ids), {*ids}
    found: dict[str, tuple[Size, Path]] = {}
    for path in files_below(folder, ENDINGS):
        try:
            image = image_of(path.relative_to(folder).as_posix(), known, str(folder))
            if image not in wanted:
                continue
            size = contents_of_file(path).size
        except BadInput:
            continue  # other files may lie beside the images, and damaged ones
        if not is_original(data, image, size):
            continue
        other = found.setdefault(image, (size, path))
        if other[0] != size:
            raise BadInput(f"{path} and {other[1]} could both be image {image}. Pass a folder with one of them.")
    return found


class FileSizes:
    """The sizes of the original files of images, for coordinates that come without one.

    They are those of the dataset unless it was resized; then those below ``folder``, or without it below the folder
    that the dataset was prepared from, if it is still there.
    """

    def __init__(self, data: Dataset, ids: Sequence[str], folder: Path | None):
        self.data, self.ids, self.folder = data, ids, folder
        if folder is not None and not folder.is_dir():
            raise BadInput(f"--images {folder} is not a folder. Pass the one with the original files.")

    @cached_property
    def known(self) -> dict[str, Size]:
        """(height, width) by image, of those whose file is known."""
        if self.folder is None and not self.data.is_resized:
            return {image: self.data.sizes[image] for image in self.ids}
        folder = self.folder or source_folder(self.data)
        if folder is None:
            return {}
        return {image: size for image, (size, _) in original_files(self.data, folder, self.ids).items()}

    def of(self, image: str, where: str) -> Size:
        """(height, width) of the file of ``image``; BadInput, about the coordinates in ``where``, if it is unknown."""
        if image not in self.known:
            raise BadInput(
                f"{where}: the coordinates are those of the original file of image {image}, whose size is not known, "
                "because the dataset was resized. Pass the folder of the original files with --images."
            )
        return self.known[image]
