"""The images to predict: files, the image files below folders, or the images of a prepared dataset."""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.datasets.files import stamp
from stages.images.image_files import ENDINGS
from stages.images.rasters import images_among, is_large, map_grid_of
from stages.images.reading import AS_SHOWN, Reading, read_image
from stages.pixels.boxes import MapGrid
from stages.predicting.geotiff import georeference
from stages.runtime.errors import BadInput

POOL = "train"
"""Endings of large files beside those of images; a VRT refers to other files, which are found themselves."""


@dataclass(frozen=True)
class Source:
    """An image: the ``name`` of its mask without ending, and the file, with how to read it, or the dataset.

    ``tiles``: the images of the dataset that were cut from it, if it is their original file.
    """

    name: str
    path: Path
    dataset: Dataset | None = None
    tiles: tuple[str, ...] = ()
    reading: Reading = AS_SHOWN

    def read(self) -> np.ndarray:
        """(H,W,B) u8: RGB, or the bands that the model knows."""
        return read_image(self.path, self.reading) if self.dataset is None else self.dataset.image(self.name)

    @property
    def file_name(self) -> str:
        """The image as other tools name it: with the ending of its file."""
        if self.dataset is not None and self.dataset.tiling is not None and self.tiles:
            tiling = self.dataset.tiling
            return tiling.files[tiling.places[self.name]]
        return f"{self.name}.png" if self.dataset is not None else f"{self.name}{self.path.suffix}"

    @cached_property
    def georeference(self) -> dict[int, Any]:
        """See `geotiff.georeference`; empty for images of a dataset."""
        return {} if self.dataset is not None or self.is_large else georeference(self.path)

    @cached_property
    def is_large(self) -> bool:
        """Whether it is predicted part by part, and its mask written so."""
        return bool(self.tiles) if self.dataset is not None else is_large(self.path)

    @cached_property
    def map_grid(self) -> MapGrid | None:
        """Where a large image lies on the Earth."""
        if self.dataset is not None and self.dataset.tiling is not None:
            return self.dataset.tiling.map_grids[self.dataset.tiling.places[self.name]]
        return map_grid_of(self.path)

    def identity(self) -> list[Any]:
        """What changes with the image."""
        if self.dataset is not None and self.tiles:
            return [self.dataset.digest, self.name, *self.tiles]
        return stamp(self.path) if self.dataset is None else [self.dataset.digest, self.name]


def find_sources(
    given: Sequence[Path],
    output: Path,
    split: str | None,
    pool: bool,
    ledger: Annotations | None,
    stack: ExitStack,
    reading: Reading = AS_SHOWN,
) -> list[Source]:
    """The images of the files, folders and datasets ``given``; datasets stay open until ``stack`` is closed.

    Folders are searched with all folders below them, except ``output``. BadInput for what does not exist, for two
    images whose masks would have the same name, and for options that need a dataset.
    """
    found: list[Source] = []
    for path in given:
        if path.is_dir():
            found += in_folder(path, output, reading)
        elif not path.is_file():
            raise BadInput(f"{path} does not exist. Pass image files, folders, or a dataset written by `prepare`.")
        elif path.suffix.lower() in (".h5", ".hdf5"):
            data = stack.enter_context(Dataset(path))
            ids = chosen_ids(data, split, pool, ledger)
            found += originals(path, data, ids) if not pool else [Source(image, path, data) for image in ids]
        else:
            found.append(Source(path.stem, path, reading=reading))
    if (split is not None or pool) and any(source.dataset is None for source in found):
        raise BadInput("--split and --pool choose images of a dataset. Pass a dataset written by `prepare`.")
    twice = [name for name, count in Counter(source.name for source in found).items() if count > 1]
    if twice:
        raise BadInput(
            f"{len(twice)} masks would be written twice, such as {twice[0]}.png. Predict these images in separate runs."
        )
    return found


def originals(path: Path, data: Dataset, ids: Sequence[str]) -> list[Source]:
    """The images ``ids`` of a dataset, or if they are tiles, the files that they were cut from."""
    tiling = data.tiling
    if tiling is None:
        return [Source(image, path, data) for image in ids]
    tiles: dict[str, list[str]] = {}
    for image in ids:
        tiles.setdefault(tiling.ids[tiling.source[data.places[image]]], []).append(image)
    return [Source(source, path, data, tuple(tiles[source])) for source in sorted(tiles)]


def in_folder(folder: Path, output: Path, reading: Reading) -> list[Source]:
    """The image files below ``folder`` by their endings, sorted."""
    inside = [file for file in folder.rglob("*") if file.is_file() and output.absolute() not in file.absolute().parents]
    files = images_among(inside)
    if not files:
        raise BadInput(f"{folder} contains no images ({', '.join(ENDINGS)}). Pass another folder.")
    return [Source(file.relative_to(folder).with_suffix("").as_posix(), file, reading=reading) for file in files]


def chosen_ids(data: Dataset, split: str | None, pool: bool, ledger: Annotations | None) -> list[str]:
    """The images of ``split`` or of all; if ``pool``, those of split train without a mask in ``ledger``."""
    if not pool:
        return data.ids(split) if split is not None else sorted(data.all_ids)
    done = set() if ledger is None else ledger.mask_ids
    left = [image for image in data.ids(POOL) if image not in done]
    if not left:
        raise BadInput(f"{data.path}: each image of the pool has a mask. There is nothing to predict.")
    return left
