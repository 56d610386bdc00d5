"""Typical candidates: those in the densest places of clusters that nothing was queried of.

TypiClust: Hacohen, Dekel and Weinshall, "Active Learning on a Budget: Opposite Strategies Suit High and Low Budgets",
ICML 2022, arXiv 2202.02794, section 3. For few queries typical units teach more than uncertain ones; one unit of each
cluster keeps near-duplicates apart.
"""

import numpy as np
from sklearn.cluster import KMeans
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

STARTS = 4
"""Runs of k-means, of which the best is kept."""


def typical(
    features: np.ndarray, queried: np.ndarray, count: int, most_clusters: int, neighbours: int, seed: int
) -> np.ndarray:
    """(count,) i64 rows of ``features`` in the order of choice; all of them if there are fewer.

    features (N,D) and queried (M,D) float, computed in f32. All N + M are put into min(M + count, most_clusters)
    clusters by k-means. Each choice is the most typical row left of the cluster with the fewest queried or chosen ones,
    among these of the largest (N + M members), ties by number. ``distances_in_cluster`` says what is typical; ties by
    row. The same seed gives the same rows.

    Raises ValueError for a negative count, other shapes, and features that are not finite.
    """
    if features.ndim != 2 or queried.ndim != 2 or features.shape[1] != queried.shape[1]:
        raise ValueError("features must be (N,D), queried (M,D)")
    if count < 0:
        raise ValueError("the count must not be negative")
    count = min(count, len(features))
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    every = np.concatenate([features, queried]).astype(np.float32)
    if not np.isfinite(every).all():
        raise ValueError("features must be finite")
    cluster = clusters_of(every, min(len(queried) + count, most_clusters), seed)
    sizes = np.bincount(cluster)
    used = np.bincount(cluster[len(features) :], minlength=len(sizes))
    left = [typical_first(every, np.flatnonzero(cluster == k), len(features), neighbours) for k in range(len(sizes))]
    chosen = np.zeros(count, dtype=np.int64)
    for place in range(count):
        best = min((k for k, rows in enumerate(left) if rows), key=lambda k: (used[k], -sizes[k], k))
        chosen[place] = left[best].pop(0)
        used[best] += 1
    return chosen


def clusters_of(features: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """(N,) integer cluster of each of (N,D) f32 by k-means, at most ``clusters`` and none empty."""
    clusters = min(clusters, len(np.unique(features, axis=0)))
    with threadpool_limits(1):  # sums of several threads come in any order
        found = KMeans(clusters, n_init=STARTS, random_state=seed).fit_predict(features)
    return np.unique(found, return_inverse=True)[1]


def typical_first(features: np.ndarray, members: np.ndarray, candidates: int, neighbours: int) -> list[int]:
    """Those of the ``members`` (n,) i64 of a cluster that are below ``candidates``, the most typical first."""
    order = np.argsort(distances_in_cluster(features[members], neighbours), kind="stable")
    return [int(row) for row in members[order] if row < candidates]


def distances_in_cluster(features: np.ndarray, neighbours: int) -> np.ndarray:
    """(n,) mean Euclidean distance of (n,D) to the nearest others, at most ``neighbours``; 0 for one alone.

    Its inverse is the typicality (equation 1 of the paper).
    """
    if len(features) == 1:
        return np.zeros(1)
    nearest = NearestNeighbors(n_neighbors=min(neighbours, len(features) - 1)).fit(features)
    return nearest.kneighbors()[0].mean(1)
