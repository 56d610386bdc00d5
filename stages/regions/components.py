"""Maps of regions, (H,W) integers, negative = no region: ids without gaps, and connected components."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components as csgraph_components

WIDEST_TABLE = 1 << 26  # larger ids are sorted; up to here they are looked up in a table of at most 64 MB


def compact(labels: np.ndarray) -> np.ndarray:
    """Ids 0..K-1 in ascending order of the old ids: (H,W) int -> (H,W) int32; negative values become -1."""
    if labels.dtype.kind == "u":
        labels = labels.astype(np.int64)
    largest = int(labels.max()) if labels.size else -1
    if largest < 0:
        return np.full(labels.shape, -1, dtype=np.int32)
    inside = labels >= 0
    if largest >= WIDEST_TABLE:
        ids = np.unique(labels[inside])
        return np.where(inside, np.searchsorted(ids, labels), -1).astype(np.int32)
    occurs = np.zeros(largest + 2, dtype=bool)  # one extra slot, which -1 reads
    occurs[np.where(inside, labels, -1)] = True
    occurs[-1] = False
    ids_below = np.cumsum(occurs, dtype=np.int32) - 1
    ids_below[-1] = -1
    return ids_below[np.where(inside, labels, -1)]


def connected_components(labels: np.ndarray, connectivity: int) -> np.ndarray:
    """The connected components of equal non-negative values: (H,W) int -> (H,W) int32.

    ``connectivity`` is 4 or 8. Ids are 0..K-1 in row-major order of the first pixels; negatives become -1.

    The graph's nodes are the horizontal runs of equal values, not the pixels: an order of magnitude fewer.
    """
    if connectivity not in (4, 8):
        raise ValueError(f"connectivity is 4 or 8, not {connectivity}")
    height, width = labels.shape
    if labels.size == 0:
        return np.zeros((height, width), dtype=np.int32)
    starts = np.ones((height, width), dtype=bool)
    np.not_equal(labels[:, 1:], labels[:, :-1], out=starts[:, 1:])
    runs = np.cumsum(starts.ravel(), dtype=np.int32).reshape(height, width) - 1
    values = labels[starts]

    shifts = [(slice(None), slice(None))]
    if connectivity == 8:
        shifts += [(slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))]
    pairs = [touching_runs(labels, runs, starts, upper, lower) for upper, lower in shifts]
    above, below = (np.concatenate(side) for side in zip(*pairs, strict=True))
    graph = coo_array((np.ones(len(above), dtype=bool), (above, below)), shape=(len(values), len(values)))
    _, of_run = csgraph_components(graph, directed=False)

    # The order in which scipy numbers components is not documented: number them by their first run.
    of_run = np.where(values >= 0, of_run, -1)
    first = np.full(int(of_run.max(initial=-1)) + 1, len(values))
    owned = np.flatnonzero(of_run >= 0)
    np.minimum.at(first, of_run[owned], owned)
    rank = np.empty(len(first) + 1, dtype=np.int32)
    rank[-1] = -1  # the slot that -1 reads
    rank[np.argsort(first, kind="stable")] = np.arange(len(first), dtype=np.int32)
    return rank[of_run][runs]


def touching_runs(
    labels: np.ndarray, runs: np.ndarray, starts: np.ndarray, upper: slice, lower: slice
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of runs of equal value where column ``upper`` of a row meets column ``lower`` of the next: two (E,) int32.

    A pair of runs meets in many columns, but is returned only where one of them starts or the slices begin.
    """
    equal = labels[:-1, upper] == labels[1:, lower]
    news = starts[:-1, upper] | starts[1:, lower]
    news[:, :1] = True
    equal &= news
    return runs[:-1, upper][equal], runs[1:, lower][equal]
