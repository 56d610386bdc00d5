"""Diverse candidates: each one farthest from all that are labelled or chosen already.

Greedy k-centre (farthest-first traversal, Gonzalez 1985; core sets after Sener & Savarese 2018), the optional diversity
of spec als4gan.md section 7 D16. The cover radius is at most twice the best possible.
"""

import numpy as np

BLOCK = 2**17
"""Numbers of features whose differences are taken together: 0.5 MB, so that they stay in the cache."""


def k_centre(features: np.ndarray, labelled: np.ndarray, candidates: np.ndarray, count: int) -> np.ndarray:
    """(count,) i64 indices of candidates in the order of choice; fewer where there are fewer candidates.

    features (N,D) float, computed in f32; labelled (N,) bool; candidates (N,) bool, of which labelled ones are left
    out. Every choice has the largest Euclidean distance to the nearest labelled or chosen one, ties by index. Without
    labelled ones the first choice is the candidate nearest the mean of the candidates. Memory beside the features is
    O(N + D); time is O(N * D) per labelled and per chosen one.

    Raises ValueError for a negative count, other shapes, and features of labelled ones or candidates that are not
    finite.
    """
    if features.ndim != 2 or not labelled.shape == candidates.shape == features.shape[:1]:
        raise ValueError("features must be (N,D), labelled and candidates (N,)")
    if count < 0:
        raise ValueError("the count must not be negative")
    candidates = candidates & ~labelled
    count = min(count, int(candidates.sum()))
    chosen = np.zeros(count, dtype=np.int64)
    if count == 0:
        return chosen
    features = np.ascontiguousarray(features, np.float32)
    if not np.isfinite(features).all(1)[candidates | labelled].all():
        raise ValueError("features must be finite")
    # -1 is below every distance and stays the smaller one: those rows are never the farthest
    squared = np.where(candidates, np.float32(np.inf), np.float32(-1))
    if labelled.any():
        approach(squared, features, np.flatnonzero(labelled))
        first = int(squared.argmax())
    else:
        first = nearest_mean(features, candidates)
    chosen[0] = first
    for place in range(1, count):
        squared[chosen[place - 1]] = -1
        approach(squared, features, chosen[place - 1 : place])
        chosen[place] = squared.argmax()  # of equal ones the first
    return chosen


def approach(squared: np.ndarray, features: np.ndarray, centres: np.ndarray) -> None:
    """Lowers squared distances (N,) f32 in place to those from features (N,D) f32 to its rows ``centres`` (K,).

    Differences are squared and summed, not the product of a matrix: equal rows are equally far, and at 0 from
    themselves.
    """
    step = max(1, BLOCK // max(1, features.shape[1]))
    for start in range(0, len(features), step):
        block, lowered = features[start : start + step], squared[start : start + step]
        differences = np.empty_like(block)
        for centre in centres:
            np.subtract(block, features[centre], out=differences)
            # fmin: rows that are neither labelled nor candidates may hold anything, and stay at -1
            np.fmin(lowered, np.einsum("ij,ij->i", differences, differences), out=lowered)


def nearest_mean(features: np.ndarray, candidates: np.ndarray) -> int:
    """The candidate nearest the mean of the candidates, ties by index; features (N,D) f32, candidates (N,) bool."""
    mean = features.mean(0, np.float64, where=candidates[:, None])
    squared = np.full(len(features), np.inf)
    rows = np.flatnonzero(candidates)
    step = max(1, BLOCK // max(1, features.shape[1]))
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        squared[block] = np.square(features[block] - mean).sum(1)
    return int(squared.argmin())
