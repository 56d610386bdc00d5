"""Curves of a result over cost, compared at equal cost: linear between measured rounds, undefined beyond them.

Costs that differ by 1 % or less count as equal: whole masks that were chosen cost a few clicks more than masks drawn at
random, and their curves, of one point each, would share no cost.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.integrate import trapezoid
from scipy.stats import t

CONFIDENCE = 0.95
EQUAL = 0.01


@dataclass(frozen=True)
class Curve:
    """Increasing costs and the value at each, both (N,) f8; draws (N,B) f8: the values on resampled images."""

    cost: np.ndarray
    value: np.ndarray
    draws: np.ndarray | None = None

    @property
    def end(self) -> float:
        """The highest cost that equals the last one."""
        return float(self.cost[-1]) * (1 + EQUAL)

    def at(self, cost: Sequence[float] | np.ndarray) -> np.ndarray:
        """Values at any costs, (M,) f8; NaN below the first measured cost and above those that equal the last."""
        values = np.interp(cost, self.cost, self.value, left=np.nan)
        return np.where(np.asarray(cost) <= self.end, values, np.nan)

    def area(self, low: float, high: float) -> float:
        """Mean height from ``low`` to ``high``: 1 / (high - low) times the integral of the value over the cost.

        The value itself if both are equal; NaN if the curve does not cover them.
        """
        inside = self.cost[(self.cost > low) & (self.cost < high)]
        costs = np.array([low, *inside, high])
        values = self.at(costs)
        return float(values[0]) if low == high else float(trapezoid(values, costs) / (high - low))

    def areas_of_draws(self, low: float, high: float) -> np.ndarray:
        """The `area` on each draw of images, (B,) f8; (0,) without draws."""
        if self.draws is None:
            return np.empty(0)
        shares = [Curve(self.cost, unit).area(low, high) for unit in np.eye(len(self.cost))]  # it is linear in values
        return np.array(shares) @ self.draws


def curve(points: Iterable[tuple[float, float]], draws: Sequence[np.ndarray] | None = None) -> Curve:
    """The curve through (cost, value); of values at the same cost the last counts. ValueError without any point.

    ``draws``: for each point its values (B,) on resampled images.
    """
    given = list(points)
    last = {cost: place for place, (cost, _) in enumerate(given)}
    if not last:
        raise ValueError("a curve needs a point")
    kept = [last[cost] for cost in sorted(last)]
    cost, value = np.array(given, dtype=np.float64)[kept].T
    return Curve(cost, value, None if draws is None else np.array([draws[place] for place in kept]))


def shared_range(curves: Sequence[Curve]) -> tuple[float, float] | None:
    """The lowest and the highest cost that all curves cover; None if there is none.

    Where all end at equal costs that they do not share, it is the highest of these: a recipe that has ended keeps its
    model.
    """
    low, high = max(each.cost[0] for each in curves), min(each.cost[-1] for each in curves)
    return (float(low), float(max(low, high))) if low <= min(each.end for each in curves) else None


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
    """A mean difference; its interval of 95 % is None if there are too few values to tell.

    ``pairs``: number of pairs; 0 for independent samples. ``images``: how many the interval covers the choice of; 0 if
    it is for these images alone.
    """

    mean: float
    interval: tuple[float, float] | None
    pairs: int
    images: int = 0

    @property
    def beyond_chance(self) -> bool:
        """Whether the interval excludes 0."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


@dataclass(frozen=True)
class OnDraws:
    """Values by seed on the same draws of ``images`` images, (B,) f8 each."""

    images: int
    ours: Mapping[Hashable, np.ndarray]
    theirs: Mapping[Hashable, np.ndarray]


def mean_difference(
    ours: Mapping[Hashable, float], theirs: Mapping[Hashable, float], draws: OnDraws | None = None
) -> MeanDifference:
    """Mean of ``ours`` minus ``theirs``, both keyed by seed, with an interval over seeds and, with ``draws``, images.

    Over the seeds that both have if there are two or more, as pairs; otherwise of independent samples with unequal
    variances (Welch). The variances of seeds and of resampled images (bootstrap) are added, and Student's t has the
    degrees of freedom of such a sum (F. E. Satterthwaite, Biometrics 1946). Seeds themselves are too few to resample:
    the percentiles of three resampled seeds exclude 0 whenever all three differ in the same direction, by chance once
    in four times.
    """
    both = [key for key in ours if key in theirs]
    paired = len(both) > 1
    mine, rival = (both, both) if paired else (list(ours), list(theirs))
    mean = float(np.mean([ours[key] for key in mine]) - np.mean([theirs[key] for key in rival]))
    pairs = len(both) if paired else 0
    if min(len(mine), len(rival)) < 2:
        return MeanDifference(mean, None, pairs)
    samples = [[ours[key] - theirs[key] for key in both]] if paired else [list(ours.values()), list(theirs.values())]
    parts = [(float(np.var(sample, ddof=1)) / len(sample), len(sample) - 1) for sample in samples]
    if draws is not None:
        on_draws = np.mean([draws.ours[key] for key in mine], 0) - np.mean([draws.theirs[key] for key in rival], 0)
        # of n drawn images the variance is (n - 1) / n of that of n new ones
        parts.append((float(np.nanvar(on_draws)) * draws.images / (draws.images - 1), draws.images - 1))
    half = half_width(parts)
    return MeanDifference(mean, (mean - half, mean + half), pairs, 0 if draws is None else draws.images)


def half_width(parts: Sequence[tuple[float, int]]) -> float:
    """Half of the interval of 95 % of a sum, given the variance and the degrees of freedom of each independent part."""
    total = sum(variance for variance, _ in parts)
    if total == 0:
        return 0.0
    freedom = 1 / sum((variance / total) ** 2 / degrees for variance, degrees in parts)
    return float(t.ppf((1 + CONFIDENCE) / 2, freedom) * np.sqrt(total))
