"""The highest of many scores, and the size of a share of them. Plain functions over flat arrays."""

import numpy as np


def pool_size(total: int, fraction: float) -> int:
    """How many candidates the share ``fraction`` is: floor(total * fraction), at least 1.

    ``total`` counts all units, void and queried ones included (PixelPick; 360x480 at 0.05 gives 8640).
    """
    return max(1, int(total * fraction + 1e-9))


def highest(scores: np.ndarray, count: int) -> np.ndarray:
    """Positions of the ``count`` highest of (N,) scores, highest first, ties by position; all of them if N is smaller.

    A partial sort finds the threshold; only the scores above it are sorted.
    """
    count = min(count, len(scores))
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    threshold = np.partition(scores, len(scores) - count)[len(scores) - count]
    above = np.flatnonzero(scores > threshold)
    level = np.flatnonzero(scores == threshold)[: count - len(above)]
    found = np.concatenate([above, level])
    return found[np.argsort(-scores[found], kind="stable")]
