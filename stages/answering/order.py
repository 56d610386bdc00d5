"""In which order people are asked: image by image, and inside an image along a short path, so the eye does not jump."""

from collections.abc import Mapping

import numpy as np


def asking_order(rows: Mapping[str, np.ndarray], y: np.ndarray, x: np.ndarray) -> list[int]:
    """Every query once; ``rows`` maps image to its queries, which lie at y, x (Q,).

    Ranks play no part: they decide what is asked, not when.
    """
    return [int(query) for group in rows.values() for query in group[short_path(y[group], x[group])]]


def short_path(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The order (n,) i64 of visiting the points y, x (n,) int: from the one at the top always to the nearest left."""
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
