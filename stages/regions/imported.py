"""Region maps of other programs: one pickle per image.

{labels: (H,W), valid_idxes: the numbers that occur}, or rectangles {boxes: (B,4), valid_idxes: those that exist}.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from stages.datasets.pickle_files import read_pickle
from stages.pixels.grids import Size
from stages.regions.components import compact
from stages.runtime.errors import BadInput

IMPORTED = "imported"
MOST_SIDE = 1 << 15
SUFFIXES = (".pkl", ".png", ".jpg", ".tif")
ADDED = ("_leftImg8bit", "_gtFine_labelIds", "_gtFine_labelTrainIds")  # what Cityscapes adds to the id of an image


def bare_name(name: str) -> str:
    """A file name or path without the endings that public code gives to the files of an image."""
    path = PurePosixPath(name)
    while path.suffix in SUFFIXES:
        path = path.with_suffix("")
    for ending in ADDED:
        path = path.with_name(path.name.removesuffix(ending) or path.name)
    return str(path)


def map_paths(folder: Path, ids: Sequence[str]) -> dict[str, Path]:
    """The map of each image in ``folder``; BadInput for images without one."""
    found = {bare_name(path.name): path for path in sorted(folder.glob("*.pkl"))}
    names = {image: image.rpartition("/")[2] for image in ids}
    missing = [image for image, name in names.items() if name not in found]
    if missing:
        raise BadInput(
            f"{folder} has no map of {len(missing)} of {len(ids)} images, such as {names[missing[0]]}.pkl. Pass the "
            "folder with the maps of the whole split."
        )
    return {image: found[name] for image, name in names.items()}


def region_map(path: Path) -> np.ndarray:
    """The numbers of the regions (H,W) i32; negative = no region."""
    content = read_pickle(path)
    labels = content.get("labels") if isinstance(content, dict) else content
    if isinstance(content, dict) and "boxes" in content:
        labels = boxes_map(path, content["boxes"], content.get("valid_idxes"))
    if not isinstance(labels, np.ndarray) or labels.ndim != 2 or labels.dtype.kind not in "iu" or not labels.size:
        raise BadInput(f"{path} contains no map of regions (labels). Check that it is the right file.")
    if int(labels.max()) >= 1 << 31:
        raise BadInput(f"{path} has a region {labels.max()}, more than 32 bits hold. Check that it is the right file.")
    return labels.astype(np.int32)


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


def read_map(path: Path, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Regions (H,W) i32 0..K-1 without gaps, and the number of each in the file (K,) i32, ascending."""
    labels = region_map(path)
    if labels.shape != tuple(size):
        theirs, ours = (f"{height} x {width}" for height, width in (labels.shape, size))
        raise BadInput(
            f"{path} is a map of {theirs} pixels, not {ours}. Prepare the dataset in that size, or set --grid-scale."
        )
    return compact(labels), np.unique(labels[labels >= 0]).astype(np.int32)
