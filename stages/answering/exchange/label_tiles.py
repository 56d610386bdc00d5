"""Labels of the files that a dataset of tiles was cut from, as labels of its tiles."""

from dataclasses import replace

import numpy as np

from stages.artifacts.dataset import Dataset
from stages.datasets.shapes.drawing import Drawing, moved
from stages.datasets.survey import told_size
from stages.pixels.grids import Size
from stages.runtime.errors import BadInput


def source_size(data: Dataset, source: str, size: Size | None, where: str) -> Size:
    """(height, width) of a file that tiles were cut from; BadInput if it is said to have another ``size``."""
    tiling = data.tiling
    assert tiling is not None
    own = tiling.sizes[tiling.places[source]]
    if size is not None and tuple(size) != tuple(own):
        raise BadInput(f"{where} has a size of {told_size(size)}, but {source} has {told_size(own)}. Use that file.")
    return own


def points_in_tiles(
    data: Dataset, source: str, y: np.ndarray, x: np.ndarray
) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray, Size]]:
    """For each tile of ``source``: its id, which of the points (y, x), each (P,) f64, it has, and where; its size.

    Where tiles overlap, a point is in the one whose border is farthest away. Points in no tile are left out.
    """
    tiling = data.tiling
    assert tiling is not None
    places = np.full(len(y), tiling.places[source])
    sizes = np.array(list(data.sizes.values()))
    tile, _, _ = tiling.in_tiles(places, np.floor(y).astype(np.int64), np.floor(x).astype(np.int64), sizes)
    found = []
    for number in np.unique(tile[tile >= 0]).tolist():
        box, rows = tiling.box(number), np.flatnonzero(tile == number)
        found.append((data.all_ids[number], rows, y[rows] - box.y, x[rows] - box.x, (box.height, box.width)))
    return found


def drawings_of_tiles(data: Dataset, source: str, drawing: Drawing) -> list[tuple[str, Drawing]]:
    """The shapes on ``source`` in each of its tiles that has any, by its id."""
    tiling = data.tiling
    assert tiling is not None
    size = source_size(data, source, drawing.size, drawing.where)
    found = []
    for number in tiling.of_source(source).tolist():
        box = tiling.box(number)
        forms = ((shape, moved(shape.form, size, box)) for shape in drawing.shapes)
        shapes = tuple(replace(shape, form=form) for shape, form in forms if form is not None)
        if shapes:
            found.append((data.all_ids[number], replace(drawing, size=(box.height, box.width), shapes=shapes)))
    return found


def masks_of_tiles(data: Dataset, source: str, values: np.ndarray, where: str) -> list[tuple[str, np.ndarray]]:
    """The part of a mask of ``source`` in each of its tiles, by its id."""
    tiling = data.tiling
    assert tiling is not None
    source_size(data, source, (values.shape[0], values.shape[1]), where)
    boxes = [(data.all_ids[number], tiling.box(number)) for number in tiling.of_source(source).tolist()]
    return [(image, values[box.rows, box.columns]) for image, box in boxes]
