"""Curves of a result over cost, compared at equal cost: linear between measured rounds, undefined beyond them."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.integrate import trapezoid
from scipy.stats import t, ttest_ind

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Curve:
    """Increasing costs and the value at each, both (N,) f8."""

    cost: np.ndarray
    value: np.ndarray

    def at(self, cost: Sequence[float] | np.ndarray) -> np.ndarray:
        """Values at any costs, (M,) f8; NaN below the first measured cost and above the last."""
        return np.interp(cost, self.cost, self.value, left=np.nan, right=np.nan)

    def area(self, low: float, high: float) -> float:
        """Mean height from ``low`` to ``high``: 1 / (high - low) times the integral of the value over the cost.

        The value itself if both are equal; NaN if the curve does not cover them.
        """
        inside = self.cost[(self.cost > low) & (self.cost < high)]
        costs = np.array([low, *inside, high])
        values = self.at(costs)
        return float(values[0]) if low == high else float(trapezoid(values, costs) / (high - low))


def curve(points: Iterable[tuple[float, float]]) -> Curve:
    """The curve through (cost, value); of values at the same cost the last counts. ValueError without any point."""
    found = dict(sorted(points, key=lambda point: point[0]))
    if not found:
        raise ValueError("a curve needs a point")
    return Curve(np.array(list(found), dtype=np.float64), np.array(list(found.values()), dtype=np.float64))


def shared_range(curves: Sequence[Curve]) -> tuple[float, float] | None:
    """The lowest and the highest cost that all curves cover; None if there is none."""
    low, high = max(each.cost[0] for each in curves), min(each.cost[-1] for each in curves)
    return (float(low), float(high)) if low <= high else None


def first_cost(curve: Curve, value: float) -> float | None:
    """The lowest cost at which the curve has ``value`` or more; None if it never does."""
    above = np.flatnonzero(curve.value >= value)
    if not len(above):
        return None
    place = int(above[0])
    if place == 0:
        return float(curve.cost[0])
    before, after = curve.value[place - 1], curve.value[place]
    share = (value - before) / (after - before)
    return float(curve.cost[place - 1] + share * (curve.cost[place] - curve.cost[place - 1]))


@dataclass(frozen=True)
class MeanDifference:
    """A mean difference; its interval of 95 % (Student's t) is None if there are too few values to tell.

    ``pairs``: number of pairs; 0 for independent samples.
    """

    mean: float
    interval: tuple[float, float] | None
    pairs: int

    @property
    def beyond_chance(self) -> bool:
        """Whether the interval excludes 0."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


def mean_difference(ours: Mapping[Hashable, float], theirs: Mapping[Hashable, float]) -> MeanDifference:
    """Mean of ``ours`` minus ``theirs``, both keyed by seed.

    Over the seeds that both have if there are two or more, as pairs; otherwise of independent samples with unequal
    variances (Welch).
    """
    both = [key for key in ours if key in theirs]
    if len(both) > 1:
        found = np.array([ours[key] - theirs[key] for key in both])
        half = t.ppf((1 + CONFIDENCE) / 2, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found))
        mean = float(found.mean())
        return MeanDifference(mean, (mean - float(half), mean + float(half)), len(found))
    left, right = list(ours.values()), list(theirs.values())
    mean = float(np.mean(left) - np.mean(right))
    if min(len(left), len(right)) < 2:
        return MeanDifference(mean, None, 0)
    if np.ptp(left) == np.ptp(right) == 0:
        return MeanDifference(mean, (mean, mean), 0)
    interval = ttest_ind(left, right, equal_var=False).confidence_interval(CONFIDENCE)
    return MeanDifference(mean, (float(interval.low), float(interval.high)), 0)
