"""Where images that are tiles, and queries on them, lie in the original files."""

from typing import Any

import numpy as np

from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import require_made_from
from stages.artifacts.queries import Queries

MOST_PLACES = 20


def sources_table(data: Dataset) -> list[dict[str, Any]]:
    """A row per original file: its size and number of tiles; none if the images are whole files."""
    tiling = data.tiling
    if tiling is None:
        return []
    counts = np.bincount(tiling.source, minlength=len(tiling.ids)).tolist()
    rows = zip(tiling.ids, tiling.files, tiling.sizes, tiling.map_grids, counts, strict=True)
    return [
        {
            "source": source,
            "file": file,
            "height": size[0],
            "width": size[1],
            "tiles": count,
            "on_map": place is not None,
        }
        for source, file, size, place, count in rows
    ]


def places_table(queries: Queries, data: Dataset) -> list[dict[str, Any]]:
    """The first queried pixels, each with its place in the original file; none for other queries or datasets."""
    require_made_from(queries, "dataset", data)
    tiling = data.tiling
    if tiling is None or queries.unit != "pixel":
        return []
    image, y, x = (values[:MOST_PLACES] for values in (queries.image, queries.y, queries.x))
    names = [queries.ids[each] for each in image.tolist()]
    grids = np.array([queries.sizes[name] for name in names]).reshape(-1, 2)
    columns = {"image": names, "y": y.tolist(), "x": x.tolist()}
    columns |= tiling.columns(np.array([data.places[name] for name in names], dtype=np.int64), y, x, grids)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
