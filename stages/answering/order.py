"""The order in which people answer queries: image by image, and within an image along a short path."""

from collections.abc import Mapping

import numpy as np


def asking_order(rows: Mapping[str, np.ndarray], y: np.ndarray, x: np.ndarray) -> list[int]:
    """All queries, each once; ``rows`` maps an image to its queries, which lie at y, x (Q,).

    Ranks do not matter here: they only decide which units are queried.
    """
    return [int(query) for group in rows.values() for query in group[short_path(y[group], x[group])]]


def short_path(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The order (n,) i64 to visit the points y, x (n,) int: the topmost first, then always the nearest one left."""
    left = np.lexsort((x, y))
    y, x = y.astype(np.int64), x.astype(np.int64)
    path = []
    place = 0
    while len(left):
        here = left[place]
        path.append(here)
        left = np.delete(left, place)
        place = int(((y[left] - y[here]) ** 2 + (x[left] - x[here]) ** 2).argmin()) if len(left) else 0
    return np.array(path, dtype=np.int64)
