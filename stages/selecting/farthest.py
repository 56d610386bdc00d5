"""Diverse candidates: each is the one farthest from all that were queried or chosen before.

Greedy k-centre (farthest-first traversal, Gonzalez 1985; core sets after Sener & Savarese 2018), the optional diversity
of spec als4gan.md section 7 D16. The cover radius is at most twice the best possible.
"""

import numpy as np

BLOCK = 2**17
"""Feature values per block of differences: 0.5 MB, so that they stay in the cache."""


def farthest(features: np.ndarray, centres: np.ndarray, count: int) -> np.ndarray:
    """(count,) i64 rows of ``features`` in the order of choice; all of them if there are fewer.

    features (N,D) and centres (M,D) float, computed in f32. Each choice has the largest Euclidean distance to the
    nearest centre or choice so far, ties by row. Without centres the first choice is the row nearest the mean of all.
    Memory in addition to the features is O(N + D); time is O(N * D) per centre and per choice.

    Raises ValueError for a negative count, other shapes, and features that are not finite.
    """
    if features.ndim != 2 or centres.ndim != 2 or features.shape[1] != centres.shape[1]:
        raise ValueError("features must be (N,D), centres (M,D)")
    if count < 0:
        raise ValueError("the count must not be negative")
    count = min(count, len(features))
    chosen = np.zeros(count, dtype=np.int64)
    if count == 0:
        return chosen
    features, centres = (np.ascontiguousarray(values, np.float32) for values in (features, centres))
    if not (np.isfinite(features).all() and np.isfinite(centres).all()):
        raise ValueError("features must be finite")
    squared = np.full(len(features), np.inf, dtype=np.float32)
    approach(squared, features, centres)
    chosen[0] = squared.argmax() if len(centres) else nearest_mean(features)
    for place in range(1, count):
        last = chosen[place - 1]
        squared[last] = -1  # below any distance, so it stays the minimum and is never chosen again
        approach(squared, features, features[last : last + 1])
        chosen[place] = squared.argmax()  # ties: the first
    return chosen


def approach(squared: np.ndarray, features: np.ndarray, centres: np.ndarray) -> None:
    """Lowers squared distances (N,) f32 in place to those from features (N,D) f32 to centres (M,D) f32.

    Differences are squared and summed instead of a matrix product: equal rows are equally far, and at distance 0 from
    themselves.
    """
    step = max(1, BLOCK // max(1, features.shape[1]))
    for start in range(0, len(features), step):
        block, lowered = features[start : start + step], squared[start : start + step]
        differences = np.empty_like(block)
        for centre in centres:
            np.subtract(block, centre, out=differences)
            np.minimum(lowered, np.einsum("ij,ij->i", differences, differences), out=lowered)


def nearest_mean(features: np.ndarray) -> int:
    """The row nearest the mean of all, ties by row; features (N,D) f32."""
    mean = features.mean(0, np.float64)
    squared = np.empty(len(features))
    step = max(1, BLOCK // max(1, features.shape[1]))
    for start in range(0, len(features), step):
        squared[start : start + step] = np.square(features[start : start + step] - mean).sum(1)
    return int(squared.argmin())
