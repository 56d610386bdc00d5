"""Neighbour lists and boxes of regions, from their map or from those of smaller regions.

A graph is a pair in CSR form: the neighbours of node i are ``neighbours[offsets[i] : offsets[i + 1]]``, ascending,
without i itself; each edge is listed at both of its ends.
"""

import numpy as np

Csr = tuple[np.ndarray, np.ndarray]
RegionTable = dict[str, np.ndarray]


def adjacency(labels: np.ndarray, count: int) -> Csr:
    """Neighbours of (H,W) int region ids 0..count-1; negative ids are no region and touch nothing.

    Returns offsets (count+1,) i64 and neighbours (E2,) i32. Two regions are neighbours when a pixel of one lies
    directly above, below, left or right of a pixel of the other (spec adaptive_superpixel.md 2.5).
    """
    pairs = [facing(labels[:, :-1], labels[:, 1:]), facing(labels[:-1], labels[1:])]
    first = np.concatenate([pair[0] for pair in pairs])
    second = np.concatenate([pair[1] for pair in pairs])
    low, high = distinct(np.minimum(first, second), np.maximum(first, second), count)
    return compressed(np.concatenate([low, high]), np.concatenate([high, low]), count)


def facing(here: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two ids at all places where (H,W) ``here`` and ``there`` differ: two (P,) arrays."""
    places = np.flatnonzero(here != there)  # few: the rest of the work is on borders only
    rows, columns = np.divmod(places, max(here.shape[1], 1))
    first, second = here[rows, columns], there[rows, columns]
    real = (first >= 0) & (second >= 0)
    return (first, second) if real.all() else (first[real], second[real])


def distinct(first: np.ndarray, second: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct pairs of two (P,) arrays of ids below ``count``, ascending: two (D,) i64 arrays."""
    codes = np.sort(first.astype(np.int64) * count + second)  # sorting beats np.unique's hash table here
    codes = codes[np.flatnonzero(np.diff(codes, prepend=-1))]
    source, target = np.divmod(codes, max(count, 1))
    return source, target


def compressed(source: np.ndarray, target: np.ndarray, count: int) -> Csr:
    """CSR of the directed edges source -> target, both (P,) ids below ``count``; repeated edges count once."""
    source, target = distinct(source, target, count)
    offsets = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(np.bincount(source, minlength=count), out=offsets[1:])
    return offsets, target.astype(np.int32)


def contract(offsets: np.ndarray, neighbours: np.ndarray, group: np.ndarray, count: int) -> Csr:
    """The graph in which node i has become node group[i] of 0..count-1; edges within a group vanish.

    Equals ``adjacency`` of the map ``group[labels]`` without reading a pixel. group (K,) int; returns CSR as above.
    """
    source, target = np.repeat(group, np.diff(offsets)), group[neighbours]
    between = source != target
    return compressed(source[between], target[between], count)


def region_table(labels: np.ndarray, count: int) -> RegionTable:
    """Pixel count and inclusive box of each region of (H,W) int ids, of which all of 0..count-1 must occur.

    Returns ``size``, ``y0``, ``x0``, ``y1``, ``x1``, all (count,) i32. Negative ids are no region.
    """
    width = labels.shape[1]
    border = np.ones(labels.shape, dtype=bool)  # True at the first pixel of each run of equal ids in its row
    np.not_equal(labels[:, 1:], labels[:, :-1], out=border[:, 1:])
    starts = np.flatnonzero(border)
    lengths = np.diff(starts, append=labels.size)
    ids = labels[border]
    if len(ids) and ids.min() < 0:
        real = ids >= 0
        starts, lengths, ids = starts[real], lengths[real], ids[real]
    rows, left = np.divmod(starts, max(width, 1))
    return gathered(ids, count, lengths, rows, left, rows, left + lengths - 1)


def contract_table(table: RegionTable, group: np.ndarray, count: int) -> RegionTable:
    """``region_table`` of the map ``group[labels]``, from the table of ``labels``, without reading a pixel.

    group (K,) int; all of 0..count-1 must occur in it.
    """
    return gathered(group, count, *(table[name] for name in ("size", "y0", "x0", "y1", "x1")))


def gathered(
    ids: np.ndarray,
    count: int,
    size: np.ndarray,
    y0: np.ndarray,
    x0: np.ndarray,
    y1: np.ndarray,
    x1: np.ndarray,
) -> RegionTable:
    """The table of regions made of (P,) pieces that have a size and a box each, piece i belonging to ``ids[i]``."""
    table = {"size": np.bincount(ids, weights=size, minlength=count).astype(np.int32)}  # float64 sums are exact here
    for name, values in {"y0": y0, "x0": x0}.items():
        table[name] = np.full(count, np.iinfo(np.int32).max, dtype=np.int32)
        np.minimum.at(table[name], ids, values.astype(np.int32))
    for name, values in {"y1": y1, "x1": x1}.items():
        table[name] = np.full(count, -1, dtype=np.int32)
        np.maximum.at(table[name], ids, values.astype(np.int32))
    return table
