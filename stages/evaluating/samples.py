"""Shares and mIoU estimated from a sample of queries, with 95 % intervals. Plain functions over arrays."""

from collections.abc import Callable, Iterator

import numpy as np

NORMAL_95 = 1.959963984540054  # 97.5 % quantile of the normal distribution
RESAMPLES = 1000
MOST_DRAWN = 1 << 22  # numbers drawn at once

Interval = tuple[float, float]
UNKNOWN: Interval = (float("nan"), float("nan"))


def wilson(share: float, number: float) -> Interval:
    """Wilson's score interval of a ``share`` of ``number`` independent draws (E. B. Wilson, JASA 1927).

    Of a simple random sample of a pool it covers the share in that pool, however much neighbours are alike.
    """
    if not number > 0:
        return UNKNOWN
    square = NORMAL_95**2 / number
    middle = (share + square / 2) / (1 + square)
    half = NORMAL_95 * np.sqrt(share * (1 - share) / number + square / (4 * number)) / (1 + square)
    return float(max(middle - half, 0)), float(min(middle + half, 1))


def effective_number(weights: np.ndarray) -> float:
    """How many equal weights are as good as ``weights`` (n,) (L. Kish, Survey Sampling, 1965, 11.7)."""
    total = weights.sum(dtype=np.float64)
    return float(total**2 / (weights.astype(np.float64) ** 2).sum()) if total else 0.0


def share_of(right: np.ndarray, weight: np.ndarray, generator: np.random.Generator) -> tuple[float, Interval]:
    """Share of ``weight`` (Q,) that is ``right`` (Q,), and its interval; NaN without any.

    Wilson's where each query is right or wrong as a whole, otherwise from resampled queries.
    """
    total = float(weight.sum())
    if not total:
        return float("nan"), UNKNOWN
    share = float(right.sum() / total)
    if ((right == 0) | (right == weight)).all():
        return share, wilson(share, effective_number(weight))
    found = [float(draw @ right / (draw @ weight)) for draw in resamples(len(right), generator) if draw @ weight]
    return share, percentiles(found, len(right))


def resampled(
    queries: int,
    owner: np.ndarray,
    values: np.ndarray,
    place: np.ndarray,
    size: int,
    measure: Callable[[np.ndarray], float],
    generator: np.random.Generator,
) -> Interval:
    """Interval of ``measure`` of sums (size,) over resampled queries.

    Each entry adds values (K,) at place (K,) int and belongs to the query owner (K,) int below ``queries``.
    """
    if queries < 2:
        return UNKNOWN
    found = [
        measure(np.bincount(place, weights=draw[owner] * values, minlength=size))
        for draw in resamples(queries, generator)
    ]
    return percentiles(found, queries)


def resamples(queries: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """How often each of ``queries`` is in a draw of as many with replacement: (queries,) i64, RESAMPLES times."""
    at_once = max(1, MOST_DRAWN // queries)
    for first in range(0, RESAMPLES, at_once):
        yield from generator.multinomial(queries, np.full(queries, 1 / queries), min(at_once, RESAMPLES - first))


def percentiles(values: list[float], queries: int) -> Interval:
    """The middle 95 % of the ``values`` that are defined; unknown from a single query."""
    known = np.array(values)[~np.isnan(values)]
    if queries < 2 or not len(known):
        return UNKNOWN
    low, high = np.quantile(known, (0.025, 0.975))
    return float(low), float(high)
