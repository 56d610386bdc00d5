"""Region maps of other programs: numbered images, arrays and pickles, or masks that may overlap.

Pickles: {labels: (H,W), valid_idxes: the numbers that occur}, or rectangles {boxes: (B,4), valid_idxes: those that
exist}.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from stages.datasets.pickle_files import read_array, read_pickle
from stages.datasets.shapes.drawing import Drawing, moved, painted, pixels_of
from stages.datasets.shapes.files import read_drawings
from stages.images.image_files import image_file
from stages.pixels.boxes import Box
from stages.pixels.grids import Size, map_on_grid
from stages.pixels.resize import resize_mask
from stages.regions.components import compact, connected_components
from stages.regions.cut import RegionGraph, cut, graph_of
from stages.regions.graph import facing
from stages.runtime.errors import BadInput

IMPORTED = "imported"
NONE = "none"
MOST_SIDE = 1 << 15
MOST_NUMBER = (1 << 31) - 1
SUFFIXES = (".pkl", ".npy", ".json", ".png", ".jpg", ".jpeg", ".tif", ".tiff")
ADDED = ("_leftImg8bit", "_gtFine_labelIds", "_gtFine_labelTrainIds")  # what Cityscapes adds to the id of an image


def bare_name(name: str) -> str:
    """A file name or path without the endings that public code gives to the files of an image."""
    path = PurePosixPath(name)
    while path.suffix.lower() in SUFFIXES:
        path = path.with_suffix("")
    for ending in ADDED:
        path = path.with_name(path.name.removesuffix(ending) or path.name)
    return str(path)


def region_map(path: Path) -> np.ndarray:
    """The numbers of the regions (H,W) i32 in a pickle; negative = no region."""
    content = read_pickle(path)
    labels = content.get("labels") if isinstance(content, dict) else content
    if isinstance(content, dict) and "boxes" in content:
        labels = boxes_map(path, content["boxes"], content.get("valid_idxes"))
    return checked_map(path, labels)


def boxes_map(path: Path, boxes: Any, valid: Any) -> np.ndarray:
    """The map (H,W) i32 of the rectangles boxes (B,4) (y0, x0, y1, x1), inclusive, whose numbers are in ``valid``."""
    boxes, valid = np.asarray(boxes), np.asarray(valid)
    fits = boxes.ndim == 2 and boxes.shape[1] == 4 and boxes.dtype.kind in "iu" and valid.ndim == 1
    if not fits or not valid.size or valid.dtype.kind not in "iu" or valid.min() < 0 or valid.max() >= len(boxes):
        raise BadInput(f"{path} contains no rectangles (boxes, valid_idxes). Check that it is the right file.")
    corners = boxes[valid].astype(np.int64)
    if corners.min() < 0 or corners.max() >= MOST_SIDE:
        raise BadInput(f"{path} has rectangles outside of any image. Check that it is the right file.")
    labels = np.full((corners[:, 2].max() + 1, corners[:, 3].max() + 1), -1, dtype=np.int32)
    for number, (top, left, bottom, right) in zip(valid.tolist(), corners.tolist(), strict=True):
        labels[top : bottom + 1, left : right + 1] = number
    return labels


def array_map(path: Path) -> np.ndarray:
    """The numbers in a NumPy file, (H,W) i32, or those of masks (M,H,W) of 0 and 1; negative = no region.

    Of masks that overlap, the smaller one is on top.
    """
    array = read_array(path)
    if array.ndim == 3 and array.dtype.kind in "biu" and np.isin(array, (0, 1)).all():
        return painted([np.flatnonzero(mask) for mask in array], array.shape[1:], "smaller")
    return checked_map(path, array)


def picture_map(path: Path) -> np.ndarray:
    """The numbers in an image file, (H,W) i32: grey values or palette indices; colours are r + 256 g + 65536 b."""
    with image_file(path) as image:
        if image.mode in ("RGB", "RGBA"):
            pixels = np.array(image.convert("RGB")).astype(np.int32)
            return pixels[..., 0] + 256 * pixels[..., 1] + 65536 * pixels[..., 2]
        pixels = np.array(image)
    if image.mode == "F" and (pixels == np.floor(pixels)).all():  # how Pillow reads some files of 32 bits
        pixels = pixels.astype(np.int64)
    return checked_map(path, pixels.astype(np.uint8) if image.mode == "1" else pixels)


def checked_map(path: Path, labels: Any) -> np.ndarray:
    """``labels`` as (H,W) i32; BadInput unless they are a map of numbers that fit."""
    if not isinstance(labels, np.ndarray) or labels.ndim != 2 or labels.dtype.kind not in "iu" or not labels.size:
        raise BadInput(f"{path} contains no map of regions (labels). Check that it is the right file.")
    if int(labels.max()) > MOST_NUMBER:
        raise BadInput(f"{path} has a region {labels.max()}, more than 32 bits hold. Check that it is the right file.")
    return np.maximum(labels.astype(np.int64), -1).astype(np.int32)


MAPS: Mapping[str, Callable[[Path], np.ndarray]] = {
    ".pkl": region_map,
    ".npy": array_map,
    ".png": picture_map,
    ".tif": picture_map,
    ".tiff": picture_map,
}
SHAPES = (".json",)
"""Endings of files of masks, see `stages.datasets.shapes`."""


def read_map(path: Path) -> np.ndarray:
    """The numbers (H,W) i32 in a file that is no drawing; negative = no region."""
    return MAPS[path.suffix.lower()](path)


@dataclass(frozen=True)
class Part:
    """A tile: its place in the file that it was cut from, and the (height, width) of that file."""

    box: Box
    whole: Size


@dataclass(frozen=True)
class RegionSource:
    """Where the regions of an image are: a file of it alone, or a drawing in the file of many.

    ``part``: the image is a tile, and the regions are those of the whole file. ``read`` reads a map.
    """

    path: Path
    drawing: Drawing | None = None
    part: Part | None = None
    read: Callable[[Path], np.ndarray] = read_map

    def numbers(self, fits: Callable[[Size], bool], image: Size, grid: Size) -> np.ndarray:
        """(H,W) i32 numbers on ``grid``: those of a map, or the places of masks in their file; -1 = no region.

        Of overlapping masks the smaller one is on top. BadInput for a size that does not ``fit``; other maps are
        resized to ``image``, as masks are.
        """
        if self.drawing is None and self.path.suffix.lower() not in SHAPES:
            found = self.read(self.path)
            self.require(fits, (found.shape[0], found.shape[1]), image)
            if self.part is not None:
                found = found[self.part.box.rows, self.part.box.columns]
            return map_on_grid(resize_mask(found, *image), grid)
        drawing = self.drawing or only_drawing(self.path)
        assert drawing.size is not None
        self.require(fits, drawing.size, image)
        size, forms = drawing.size, [shape.form for shape in drawing.shapes]
        if self.part is None:
            return painted([pixels_of(form, size, grid) for form in forms], grid, "smaller")
        box, nothing = self.part.box, np.zeros(0, dtype=np.int64)
        inside = [moved(form, size, box) for form in forms]
        indices = [nothing if form is None else pixels_of(form, (box.height, box.width), grid) for form in inside]
        return painted(indices, grid, "smaller")

    def require(self, fits: Callable[[Size], bool], size: Size, image: Size) -> None:
        if self.part is not None:
            if tuple(size) != tuple(self.part.whole):
                theirs, ours = (f"{height} x {width}" for height, width in (size, self.part.whole))
                raise BadInput(
                    f"{self.path} is a map of {theirs} pixels, but tiles were cut from a file of {ours}. Pass maps of "
                    "the tiles, or of the whole file."
                )
        elif not fits(size):
            theirs, ours = (f"{height} x {width}" for height, width in (size, image))
            raise BadInput(
                f"{self.path} is a map of {theirs} pixels, not {ours}. Pass maps of the images of the dataset, or of "
                "its original files."
            )


def only_drawing(path: Path) -> Drawing:
    """The masks in a file that is named after an image."""
    found = read_drawings(path)
    if len(found) != 1 or found[0].size is None:
        raise BadInput(f"{path} has masks of {len(found)} images. Pass a file per image, or name it after none.")
    return found[0]


@dataclass(frozen=True)
class ImportTask:
    """An image with the numbers of its regions (H,W) i32 (-1 = none), and what is done with the rest of it.

    pixels: the image (H,W,3) u8 if there is a rest to cut, by the cutter ``rest`` with its settings ``own``.
    """

    image: str
    numbers: np.ndarray
    pixels: np.ndarray | None
    rest: str
    own: Mapping[str, Any]
    min_pixels: int


def complete(task: ImportTask) -> tuple[np.ndarray, np.ndarray, RegionGraph]:
    """The regions of an image (H,W) i32 0..K-1, the number of each (K,) i32 ascending, and their graph.

    What the cutter adds has numbers above those of the file.
    """
    numbers = task.numbers.astype(np.int64)
    if task.pixels is not None:
        try:
            pieces = cut(task.pixels, task.rest, **task.own)
        except BadInput as error:
            raise BadInput([f"{task.image}: {fault}" for fault in error.faults]) from error
        pieces = connected_components(np.where(numbers < 0, pieces, -1), 4)
        numbers = np.where(pieces >= 0, pieces + (numbers.max(initial=-1) + 1), numbers)
    labels, source = compact(numbers), np.unique(numbers[numbers >= 0])
    if task.min_pixels > 1:
        kept = without_small(labels, task.min_pixels)
        numbers = np.where(labels >= 0, source[kept[labels]] if len(source) else -1, -1)
        labels, source = compact(numbers), np.unique(numbers[numbers >= 0])
    if source.max(initial=0) > MOST_NUMBER:
        raise BadInput(f"{task.image}: its regions have numbers beyond 32 bits. Number them from 0.")
    return labels, source.astype(np.int32), graph_of(labels)


def without_small(labels: np.ndarray, least: int) -> np.ndarray:
    """(K,) i64 the region that each of the regions 0..K-1 in labels (H,W) i32 becomes a part of.

    Regions of fewer than ``least`` pixels join the neighbour with the longest common border (ties: the lowest), until
    none with a neighbour is left; what joins is named after its largest region.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components as joined_nodes

    count = int(labels.max(initial=-1)) + 1
    own = np.bincount(labels[labels >= 0], minlength=count)
    group = np.arange(count)  # region -> the group that it is in
    while True:
        current = np.append(group, -1)[labels]
        size = np.bincount(group, weights=own, minlength=count)
        pairs = [facing(current[:, :-1], current[:, 1:]), facing(current[:-1], current[1:])]
        one, two = (np.concatenate(side) for side in zip(*pairs, strict=True))
        ends = np.concatenate([one, two]).astype(np.int64) * count + np.concatenate([two, one])
        edges, border = np.unique(ends, return_counts=True)
        source, target = np.divmod(edges, max(count, 1))
        small = size[source] < least
        if not small.any():
            return group
        source, target, border = source[small], target[small], border[small]
        order = np.lexsort([target, -border, source])
        first = order[np.unique(source[order], return_index=True)[1]]
        graph = coo_array((np.ones(len(first)), (source[first], target[first])), shape=(count, count))
        _, together = joined_nodes(graph, directed=False)
        part = together[group]
        largest = np.lexsort([np.arange(count), -own, part])
        parts, place = np.unique(part[largest], return_index=True)
        named = np.zeros(count, dtype=np.int64)
        named[parts] = largest[place]
        group = named[part]
