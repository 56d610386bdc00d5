"""Writes the images of a dataset to several files, where one would be too large."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from stages.artifacts.hdf5 import LIBVER, Writer, walk
from stages.artifacts.images import FOLDERS, NAMED, ImageFile, StoredFile, image_folder
from stages.artifacts.publish import find_partials, make_folder, publishing, remove_leftover
from stages.artifacts.request import Request
from stages.artifacts.shards import is_whole
from stages.runtime.console import Progress


def publish_image_files(request: Request, shards: Sequence[Path], limit: float) -> list[StoredFile]:
    """Publishes the images in ``shards`` in files of at most ``limit`` bytes, but of one shard at least.

    Empty if they fit in one file. Those of an earlier attempt of the same request are kept if they are whole.
    """
    bytes_of = [image_bytes(shard) for shard in shards]
    if sum(bytes_of) <= limit:
        return []
    folder = image_folder(request.output)
    make_folder(folder)
    stored = []
    with Progress("joining", len(shards)) as bar:
        for number, (start, stop) in enumerate(divided(bytes_of, limit)):
            path = folder / f"{request.key()[:12]}-{number:03d}.h5"
            if not is_whole(path):
                publish_image_file(request, path, shards[start:stop])
            with ImageFile(path) as file:
                name = path.relative_to(request.output.parent).as_posix()
                stored.append(StoredFile(name, file.digest, file.all_ids))
            bar.advance(stop - start)
    return stored


def image_bytes(shard: Path) -> int:
    """How many bytes the images in ``shard`` take."""
    with h5py.File(shard, "r", locking=False) as file:
        return sum(array.nbytes for folder in FOLDERS if folder in file for _, array in walk(file[folder]))


def divided(sizes: Sequence[int], limit: float) -> list[tuple[int, int]]:
    """(start, stop) of consecutive ``sizes`` whose sum is at most ``limit``, or that are one."""
    groups, start, total = [], 0, 0
    for place, size in enumerate(sizes):
        if place > start and total + size > limit:
            groups.append((start, place))
            start, total = place, 0
        total += size
    return [*groups, (start, len(sizes))]


def publish_image_file(request: Request, path: Path, shards: Sequence[Path]) -> None:
    with publishing(path) as partial, h5py.File(partial, "w", libver=LIBVER) as file:
        writer = Writer(file)
        for shard in shards:
            with h5py.File(shard, "r", locking=False) as source:
                writer.adopt(source, lambda array: array.partition("/")[0] in FOLDERS)
        sizes = {
            name: [(image, *array.shape[:2]) for image, array in walk(file[name])] for name in FOLDERS if name in file
        }
        evaluated = {image: size for image, *size in sizes.get("evaluation_images", [])}
        rows = [(image, height, width, *evaluated.get(image, (0, 0))) for image, height, width in sizes["images"]]
        writer.strings("index/id", [row[0] for row in rows])
        for column, name in enumerate(("height", "width", "evaluation_height", "evaluation_width"), 1):
            writer.array(f"index/{name}", np.array([row[column] for row in rows], dtype=np.int32))
        made = replace(request.header(counts={"images": len(rows)}), kind=ImageFile.kind, inputs={})
        writer.finish(made)


def remove_other_image_files(dataset: Path, stored: Sequence[StoredFile]) -> None:
    """Removes the files with images that an earlier ``dataset`` named, and what dead processes left of others."""
    folder = image_folder(dataset)
    if not folder.is_dir():
        return
    named = {dataset.parent / each.file for each in stored}
    for path in folder.iterdir():
        if NAMED.fullmatch(f"{folder.name}/{path.name}") and path not in named:
            remove_leftover(path)
    for path in named:
        for partial in find_partials(path):
            remove_leftover(partial)
    if not any(folder.iterdir()):
        folder.rmdir()
