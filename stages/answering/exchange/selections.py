"""Selections of other programs: pixels, regions or images in the files that public code writes.

| content | unit | written by |
|---|---|---|
| pickle {image: {height, width, x_coords, y_coords}} | pixels | PixelPick, 2022 |
| NumPy file (N,H,W) of 0 and 1, or pickled list of N such (H,W); N images in order | pixels | PixelPick, 2021 |
| folder of pickles {labels (H,W), valid_idxes}, -1 = chosen before | pixels | MADBAL |
| pickle {image: [region]} | regions | superpixel methods, `batch_K.pkl` |
| pickle or NumPy file of numbers image x stride + region | regions | the same, `batch_K_selected_idx.pkl` |
| pickle [(score, "image,labels,superpixels", region)] | regions | MulActSeg, `*_selection_KK.pkl` |
| pickle {trg_label_suppix: {superpixels: [region]}} | regions | MulActSeg, `datalist_KK.pkl` |
| NumPy or text file of names | images | ALS4GAN |
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stages.datasets.image_names import image_of, known_names
from stages.datasets.pickle_files import MOST_BYTES, read_array, read_pickle
from stages.pixels.grids import Size
from stages.regions.imported import bare_name, region_map
from stages.runtime.errors import BadInput
from stages.runtime.limited import read_limited

LABELLED = "trg_label_suppix"
POINTS = {"height", "width", "x_coords", "y_coords"}


@dataclass(frozen=True)
class Selection:
    """Units that another program chose, in its order if the file has one.

    image: (n,) i64 places in the list of images. y, x: (n,) i64, -1 unless the unit is pixel. region: (n,) i64, as the
    other program numbers them, -1 unless the unit is region. score: (n,) f64, 0 if the file has none. grids: the grid
    of each image that has pixels.
    """

    unit: str
    image: np.ndarray
    y: np.ndarray
    x: np.ndarray
    region: np.ndarray
    score: np.ndarray
    grids: dict[str, Size]

    def __len__(self) -> int:
        return len(self.image)

    def taken(self, rows: np.ndarray) -> "Selection":
        """The units in ``rows``, bool or numbers."""
        columns = {name: getattr(self, name)[rows] for name in ("image", "y", "x", "region", "score")}
        return replace(self, **columns)


class Images:
    """The images of the dataset, in the order of the other program, found by the names it uses."""

    def __init__(self, ids: Sequence[str], where: Path):
        self.ids, self.where = ids, where
        self.known, self.places = known_names(ids), {image: place for place, image in enumerate(ids)}

    def place(self, name: Any) -> int:
        """The place of the image called ``name``: an id, a file name or a path of any kind of its files."""
        if not isinstance(name, str):
            raise BadInput(f"{self.where}: {name!r} is not the name of an image. Check that it is the right file.")
        return self.places[image_of(bare_name(name), self.known, str(self.where))]


def read_selection(path: Path, ids: Sequence[str], stride: int | None = None) -> Selection:
    """The selection in ``path``, a file or a folder of pickles, among the images ``ids``.

    ``ids`` are in the order of the other program, which matters for files that count images; ``stride`` is the number
    of regions that each image has room for in files that count regions. BadInput for other contents, other images, and
    units that occur twice.
    """
    images = Images(ids, path)
    if path.is_dir():
        return from_region_maps(images, path)
    if path.suffix == ".txt":
        return from_names(images, read_limited(path, MOST_BYTES).decode("utf-8-sig", "replace").split())
    content = read_array(path) if path.suffix == ".npy" else read_pickle(path)
    if isinstance(content, np.ndarray):
        return from_array(images, content, stride)
    if isinstance(content, dict) and isinstance(content.get(LABELLED), dict):
        return from_regions(images, content[LABELLED])
    if isinstance(content, dict) and content:
        if all(is_points(each) for each in content.values()):
            return from_points(images, content)
        return from_regions(images, content)
    if isinstance(content, list) and content:
        if all(isinstance(each, np.ndarray) for each in content):
            return from_masks(images, content)
        if all(isinstance(each, tuple) and len(each) == 3 for each in content):
            return from_ranks(images, content)
        if all(isinstance(each, int) for each in content):
            return from_array(images, np.array(content, dtype=np.int64), stride)
    raise unknown(path)


def unknown(path: Path) -> BadInput:
    return BadInput(f"{path} contains no selection of a known form. Check that it is the right file.")


def is_points(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() >= POINTS


def selection(
    images: Images,
    unit: str,
    image: Iterable[int] | np.ndarray,
    y: np.ndarray | None = None,
    x: np.ndarray | None = None,
    region: np.ndarray | None = None,
    score: np.ndarray | None = None,
    grids: Mapping[str, Size] | None = None,
) -> Selection:
    """A selection; BadInput if it is empty or contains a unit twice."""
    places = np.array(image, dtype=np.int64)
    nowhere = np.full(len(places), -1, dtype=np.int64)
    y, x, region = (nowhere if each is None else each.astype(np.int64) for each in (y, x, region))
    if not len(places):
        raise BadInput(f"{images.where} selects nothing. Check that it is the right file.")
    columns = [y, x, region, places]
    order = np.lexsort(columns)
    same = np.all([column[order][1:] == column[order][:-1] for column in columns], axis=0)
    if same.any():
        raise BadInput(f"{images.where} selects a {unit} of image {images.ids[places[order][1:][same][0]]} twice.")
    scores = np.zeros(len(places)) if score is None else score.astype(np.float64)
    return Selection(unit, places, y, x, region, scores, dict(grids or {}))


def whole_numbers(where: Path, values: Any) -> np.ndarray:
    """(n,) i64; BadInput for anything but whole numbers from 0 on."""
    try:
        found = np.asarray(values)
    except ValueError:  # lists of different lengths
        found = np.zeros((0, 0))
    if found.size == 0 and found.ndim == 1:
        return np.zeros(0, dtype=np.int64)
    if found.ndim != 1 or found.dtype.kind not in "iu" or found.min() < 0 or found.max() >= 1 << 62:
        raise BadInput(f"{where}: expected a list of whole numbers from 0 on. Check that it is the right file.")
    return found.astype(np.int64)


def from_points(images: Images, content: Mapping[Any, Mapping[str, Any]]) -> Selection:
    place, y, x, grids = [], [], [], {}
    for name, points in content.items():
        number = images.place(name)
        rows, columns = (whole_numbers(images.where, points[key]) for key in ("y_coords", "x_coords"))
        height, width = (whole_numbers(images.where, [points[key]])[0] for key in ("height", "width"))
        if len(rows) != len(columns) or rows.max(initial=-1) >= height or columns.max(initial=-1) >= width:
            raise BadInput(f"{images.where}: the points of {name} lie outside of {height} x {width} pixels.")
        if images.ids[number] in grids:
            raise BadInput(f"{images.where} contains image {images.ids[number]} twice. Keep one of them.")
        grids[images.ids[number]] = (int(height), int(width))
        place.append(np.full(len(rows), number))
        y.append(rows)
        x.append(columns)
    return selection(images, "pixel", np.concatenate(place), np.concatenate(y), np.concatenate(x), grids=grids)


def from_masks(images: Images, masks: Sequence[np.ndarray] | np.ndarray) -> Selection:
    """One mask (H,W) of 0 and 1 per image, in the order of the images."""
    if len(masks) != len(images.ids):
        raise BadInput(
            f"{images.where} contains masks of {len(masks)} images, and the split has {len(images.ids)}. Check --split."
        )
    place, y, x, grids = [], [], [], {}
    for number, mask in enumerate(masks):
        if mask.ndim != 2 or mask.dtype.kind not in "biu" or not np.isin(mask, (0, 1)).all():
            raise unknown(images.where)
        rows, columns = np.nonzero(mask)
        grids[images.ids[number]] = (int(mask.shape[0]), int(mask.shape[1]))
        place.append(np.full(len(rows), number))
        y.append(rows)
        x.append(columns)
    return selection(images, "pixel", np.concatenate(place), np.concatenate(y), np.concatenate(x), grids=grids)


def from_region_maps(images: Images, folder: Path) -> Selection:
    """The pixels that are -1 in the region map of their image, in all maps of a folder."""
    place, y, x, grids = [], [], [], {}
    for path in sorted(folder.glob("*.pkl")):
        number, labels = images.place(path.name), region_map(path)
        rows, columns = np.nonzero(labels == -1)
        grids[images.ids[number]] = (int(labels.shape[0]), int(labels.shape[1]))
        place.append(np.full(len(rows), number))
        y.append(rows)
        x.append(columns)
    if not place:
        raise BadInput(f"{folder} contains no pickles (.pkl). Pass the folder with the region maps.")
    return selection(images, "pixel", np.concatenate(place), np.concatenate(y), np.concatenate(x), grids=grids)


def from_regions(images: Images, content: Mapping[Any, Any]) -> Selection:
    place, region = [], []
    for name, numbers in content.items():
        found = whole_numbers(images.where, numbers)
        place.append(np.full(len(found), images.place(name)))
        region.append(found)
    return selection(images, "region", np.concatenate(place), region=np.concatenate(region))


def from_ranks(images: Images, content: Sequence[tuple[Any, Any, Any]]) -> Selection:
    scores, names, numbers = zip(*content, strict=True)
    if not all(isinstance(each, int | float) for each in scores) or not all(isinstance(each, str) for each in names):
        raise unknown(images.where)
    places = {name: images.place(name.rpartition(",")[2]) for name in set(names)}
    region = whole_numbers(images.where, list(numbers))
    return selection(images, "region", [places[name] for name in names], region=region, score=np.array(scores))


def from_names(images: Images, names: Iterable[Any]) -> Selection:
    return selection(images, "image", [images.place(name) for name in names])


def from_array(images: Images, content: np.ndarray, stride: int | None) -> Selection:
    if content.ndim == 3:
        return from_masks(images, content)
    if content.ndim == 1 and content.dtype.kind == "U":
        return from_names(images, content.tolist())
    if content.ndim != 1 or content.dtype.kind not in "iu":
        raise unknown(images.where)
    if stride is None:
        raise BadInput(
            f"{images.where} numbers regions over all images. Pass --stride, the number of regions per image that the "
            "other program was run with."
        )
    numbers = whole_numbers(images.where, content)
    if numbers.max(initial=0) // stride >= len(images.ids):
        raise BadInput(
            f"{images.where} names image {numbers.max() // stride}, and the split has {len(images.ids)}. Check "
            "--stride and --split."
        )
    return selection(images, "region", numbers // stride, region=numbers % stride)
