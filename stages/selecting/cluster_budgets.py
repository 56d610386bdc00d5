"""A budget split over clusters of regions by the clusters' scores, then the best regions of each cluster.

After Yazdani et al., "Maturity-Aware Active Learning for Semantic Segmentation with Hierarchically-Adaptive Sample
Assessment" (BMVC 2023); spec madbal.md 5.6, 6.1 to 6.3. Plain functions over flat arrays: N candidates, K clusters;
ties in index order.
"""

from fractions import Fraction
from typing import Literal

import numpy as np

from stages.artifacts.scores import ClusterTables

ClusterScore = Literal["reference", "pixel-mean", "region-mean"]
Remainder = Literal["reference", "largest"]
Redistribution = Literal["best", "reference"]

DEALS = 150
"""How often `deal_budgets` deals before it gives up (the public code aborts then; spec madbal.md 6.2)."""


def cluster_scores(kind: ClusterScore, tables: ClusterTables) -> np.ndarray:
    """(K,) f64 g_k: what each cluster's share of the budget is proportional to; 0 for an empty cluster.

    reference: sum of the regions' means over the number of pixels, so clusters of small regions are favoured, as in the
    public code; pixel-mean: mean over pixels; region-mean: mean over regions (spec madbal.md 5.6).
    """
    sums, counts = {
        "reference": (tables.score, tables.pixels),
        "pixel-mean": (tables.pixel_score, tables.pixels),
        "region-mean": (tables.score, tables.regions),
    }[kind]
    return np.divide(sums, counts, out=np.zeros(len(sums)), where=counts > 0)


def cluster_budgets(scores: np.ndarray, budget: int, remainder: Remainder) -> np.ndarray:
    """(K,) i64 b_k = floor(budget * g_k / sum of g) plus what rounding left over; the sum is ``budget``.

    scores (K,) f64, K >= 1; if all are zero, they count as equal. ``remainder`` reference: all to the first cluster
    with the smallest b_k; largest: one each to the largest remainders, ties by index (spec madbal.md 6.1). Raises
    ValueError when a score is negative or not finite, or the budget negative.
    """
    if not np.isfinite(scores).all() or (scores < 0).any():
        raise ValueError("cluster scores must be finite and not negative")
    if budget < 0:
        raise ValueError("the budget must not be negative")
    # Exact on the shortest decimals: in binary, 20 * 0.9 / (0.9 + 0.5 + 0.3 + 0.2 + 0.1) may fall short of 9.
    exact = [Fraction(repr(value)) for value in np.asarray(scores, np.float64).tolist()]
    if not any(exact):
        exact = [Fraction(1)] * len(exact)
    total = sum(exact)
    shares = [budget * value / total for value in exact]
    whole = [share.numerator // share.denominator for share in shares]
    left = budget - sum(whole)
    if remainder == "reference":
        whole[whole.index(min(whole))] += left
    else:
        by_remainder = sorted(range(len(whole)), key=lambda k: whole[k] - shares[k])  # stable: ties by index
        for k in by_remainder[:left]:
            whole[k] += 1
    return np.array(whole, dtype=np.int64)


def redistributed(
    kind: Redistribution, budgets: np.ndarray, capacity: np.ndarray, scores: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """(K,) i64 number taken from each cluster, at most its capacity (K,) i64 (spec madbal.md 6.2)."""
    if kind == "best":
        return spread_budgets(budgets, capacity[None], scores)[0]
    return deal_budgets(budgets, capacity, generator, scores)


def spread_budgets(budgets: np.ndarray, capacity: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(N,K) i64 number each image takes from each cluster: min(budget, capacity); the best clusters get the surplus.

    budgets (K,) i64, capacity (N,K) i64 regions left, scores (K,) f64. Each surplus unit goes to the unsaturated
    cluster with the largest score, ties by index, so the best one is filled first, then the next. An image whose
    capacity is below the budget gives all its regions; its shortfall is sum(budgets) - sum(row) (spec madbal.md 6.2).
    """
    taken = np.minimum(budgets, capacity)
    best_first = np.argsort(-scores, kind="stable")
    room = (capacity - taken)[:, best_first]
    before = room.cumsum(1) - room  # what better clusters can still take
    surplus = budgets.sum() - taken.sum(1, keepdims=True)
    taken[:, best_first] += np.clip(surplus - before, 0, room)
    return taken


def deal_budgets(
    budgets: np.ndarray, capacity: np.ndarray, generator: np.random.Generator, scores: np.ndarray | None = None
) -> np.ndarray:
    """(K,) i64 number one image takes from each cluster by the public code's repeated dealing (spec madbal.md 6.2).

    budgets (K,) i64, capacity (K,) i64 regions left. While clusters exceed their capacity, they are clipped to it and
    the excess is dealt out evenly to all others, including full ones, its indivisible rest to one of them at random; a
    random number is drawn only if there is a rest. If the public code would abort (`DEALS` deals, or less capacity than
    budget), this is `spread_budgets` from the start, in order of ``scores`` (K,) f64, or of the budgets without them.
    """
    dealt = budgets.astype(np.int64)
    if capacity.sum() >= budgets.sum():  # then not every cluster can be over-full: the excess always finds receivers
        for _ in range(DEALS):
            over = dealt > capacity
            if not over.any():
                return dealt
            share, rest = divmod(int((dealt - capacity)[over].sum()), int((~over).sum()))
            dealt = np.where(over, capacity, dealt + share)
            if rest:
                dealt[generator.choice(np.flatnonzero(~over))] += rest
        if (dealt <= capacity).all():
            return dealt
    return spread_budgets(budgets, capacity[None], budgets if scores is None else scores)[0]


def best_per_cluster(cluster: np.ndarray, score: np.ndarray, allowance: np.ndarray) -> np.ndarray:
    """(Q,) i64 positions: in each cluster the allowed number of highest scores, ties by index; ascending.

    cluster (N,) integer in 0..K-1, score (N,) f64, allowance (K,) i64; fewer if a cluster has fewer. Raises ValueError
    when a cluster is out of range.
    """
    require_range("cluster", cluster, len(allowance))
    order = np.lexsort((-score, cluster))  # stable
    counts = np.bincount(cluster, minlength=len(allowance))
    rank = np.arange(len(cluster)) - (counts.cumsum() - counts)[cluster[order]]
    return np.sort(order[rank < allowance[cluster[order]]])


def require_range(name: str, values: np.ndarray, count: int) -> None:
    """Raises ValueError when a value is not in 0..count-1: in a flat index it would count for a neighbour."""
    if len(values) and not 0 <= values.min() <= values.max() < count:
        raise ValueError(f"a {name} is outside 0..{count - 1}")
