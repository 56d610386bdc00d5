"""One form for the shapes of all tools, and the pixels that they cover on a grid of any size.

Coordinates are (x, y) in pixels of the image that was drawn on, from its upper left corner, so the centre of the first
pixel is (0.5, 0.5). A polygon covers the pixels whose centre is inside, as the COCO API has it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from stages.datasets.shapes.runs import string_runs
from stages.pixels.boxes import Box
from stages.pixels.grids import Size
from stages.pixels.resize import resize_mask
from stages.pixels.runs import spans
from stages.runtime.errors import BadInput
from stages.settings.common import Overlap

FURTHEST = 1 << 17  # pycocotools crashes beyond
CORNERS_OF_ELLIPSES = 128


@dataclass(frozen=True)
class Polygons:
    """The union of ``rings``, each (n,2) f64 corners (x, y), n >= 3."""

    rings: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Runs:
    """A mask of the whole image: (n,) i64 lengths of the runs outside, inside, outside, ... down the columns."""

    lengths: np.ndarray


@dataclass(frozen=True)
class Patch:
    """A mask (h,w) bool with its upper left pixel at (left, top), inside the image."""

    left: int
    top: int
    inside: np.ndarray


@dataclass(frozen=True)
class Point:
    """A point (x, y), somewhere in a pixel."""

    x: float
    y: float


Form = Polygons | Runs | Patch | Point


@dataclass(frozen=True)
class Shape:
    """A form with the name that its tool has for its class; ``where`` names it in messages."""

    label: str
    form: Form
    where: str


@dataclass(frozen=True)
class Drawing:
    """The shapes of an image, earlier ones first.

    ``names``: what the file calls the image, the likeliest first. ``size``: (height, width), if the file says so.
    """

    names: tuple[str, ...]
    size: Size | None
    where: str
    shapes: Sequence[Shape] = field(default_factory=tuple)


def polygons(rings: Sequence[Sequence[Sequence[float]]] | Sequence[np.ndarray], where: str) -> Polygons:
    """The form of ``rings``, each a list of corners (x, y); BadInput unless all have three corners or more."""
    arrays = tuple(np.array(ring, dtype=np.float64).reshape(-1, 2) for ring in rings)
    if not arrays or any(len(ring) < 3 for ring in arrays):
        raise BadInput(f"{where} has fewer than three corners. Draw it again, or remove it.")
    if any(not np.isfinite(ring).all() or (np.abs(ring) > FURTHEST).any() for ring in arrays):
        raise BadInput(f"{where} has a corner that is no place in an image. Draw it again, or remove it.")
    return Polygons(arrays)


def ellipse(x: float, y: float, across: float, down: float, degrees: float, where: str) -> Polygons:
    """The polygon of an ellipse around (x, y) with these radii, turned clockwise by ``degrees``."""
    angle = np.linspace(0, 2 * np.pi, CORNERS_OF_ELLIPSES, endpoint=False)
    return turned(np.stack([x + across * np.cos(angle), y + down * np.sin(angle)], 1), degrees, (x, y), where)


def box(left: float, top: float, right: float, bottom: float, degrees: float, where: str) -> Polygons:
    """The polygon of a rectangle, turned clockwise about its centre by ``degrees``."""
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], dtype=np.float64)
    return turned(corners, degrees, ((left + right) / 2, (top + bottom) / 2), where)


def turned(corners: np.ndarray, degrees: float, centre: tuple[float, float], where: str) -> Polygons:
    if degrees:
        sine, cosine = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
        corners = (corners - centre) @ np.array([[cosine, sine], [-sine, cosine]]) + centre
    return polygons([corners], where)


def pixels_of(form: Form, size: Size, grid: Size) -> np.ndarray:
    """(P,) i64 flat indices of the pixels of ``grid`` that a form on an image of ``size`` covers.

    Polygons are scaled to the grid; masks are resized as `resize_mask` does; a point covers the pixel it falls in.
    """
    if isinstance(form, Point):
        y, x = (int(value * new // old) for value, new, old in zip((form.y, form.x), grid, size, strict=True))
        return np.array([y * grid[1] + x], dtype=np.int64)
    if isinstance(form, Polygons):
        return index_of_runs(polygon_runs(form, size, grid), grid)
    if isinstance(form, Runs):
        index = index_of_runs(form.lengths, size)
    else:
        rows, columns = np.nonzero(form.inside)
        index = (rows + form.top) * size[1] + columns + form.left
    if tuple(size) == tuple(grid):
        return index
    dense = np.zeros(size, dtype=bool)
    dense.ravel()[index] = True
    return np.flatnonzero(resize_mask(dense, *grid))


def polygon_runs(form: Polygons, size: Size, grid: Size) -> np.ndarray:
    """(n,) i64 runs of a polygon on ``grid``, see `Runs`."""
    from pycocotools import mask as coco

    scale = np.array([grid[1] / size[1], grid[0] / size[0]])
    rings = [np.clip(ring * scale, -FURTHEST, FURTHEST).ravel().tolist() for ring in form.rings]
    return string_runs(coco.merge(coco.frPyObjects(rings, *grid))["counts"].decode())


def index_of_runs(lengths: np.ndarray, size: Size) -> np.ndarray:
    """(P,) i64 flat row-major indices of the pixels inside ``lengths``, see `Runs`, column by column."""
    height, width = size
    down, _ = spans((lengths.cumsum() - lengths)[1::2], lengths[1::2])
    return down % height * width + down // height


def painted(indices: Sequence[np.ndarray], grid: Size, overlap: Overlap) -> np.ndarray:
    """(H,W) i32 number of the shape on top at each pixel of ``grid``, -1 = none.

    indices: the pixels of each shape, see `pixels_of`. Where shapes overlap, the later one is on top, or the one that
    covers fewer pixels (ties: the later one).
    """
    above = np.full(grid, -1, dtype=np.int32)
    order = range(len(indices))
    if overlap == "smaller":
        order = np.argsort([-len(index) for index in indices], kind="stable").tolist()
    for number in order:
        above.ravel()[indices[number]] = number
    return above


def moved(form: Form, size: Size, box: Box) -> Form | None:
    """The form as it lies in a part of its image of ``size``, in pixels of the part; None if it is beside it."""
    if isinstance(form, Point):
        y, x = form.y - box.y, form.x - box.x
        return Point(x, y) if 0 <= y < box.height and 0 <= x < box.width else None
    if isinstance(form, Polygons):
        rings = tuple(ring - (box.x, box.y) for ring in form.rings)
        near = [(ring.max(0) > 0).all() and (ring.min(0) < (box.width, box.height)).all() for ring in rings]
        return Polygons(rings) if any(near) else None
    rows, columns = np.divmod(pixels_of(form, size, size), size[1])
    kept = (rows >= box.y) & (rows < box.y + box.height) & (columns >= box.x) & (columns < box.x + box.width)
    if not kept.any():
        return None
    inside = np.zeros((box.height, box.width), dtype=bool)
    inside[rows[kept] - box.y, columns[kept] - box.x] = True
    return Patch(0, 0, inside)
