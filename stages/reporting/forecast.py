"""What the next round of a run is likely to bring: its learning curve, continued as a power law.

a - b cost^-c fits learning curves over the amount of data (J. Hestness et al.: Deep learning scaling is predictable,
empirically, 2017; T. Viering, M. Loog: The shape of learning curves, TPAMI 2023). The interval is that of what will be
measured: it comes from curves drawn around the fit with the spread of its residuals and fitted again, and from the same
spread of the next value and the last one. So it is wide for few rounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.runtime.randomness import stream

FEWEST_ROUNDS = 4  # three parameters leave nothing to judge the fit by with fewer
WORTH = 0.5  # points below which a round is not worth its cost
HIGHEST = 100.0  # of values in %
EXPONENTS = np.geomspace(0.05, 5, 60)
DRAWS = 1000
UNCERTAIN = 10.0  # points; width of an interval that decides nothing


@dataclass(frozen=True)
class Laws:
    """Power laws limit - drop (cost / scale)^-exponent, one per curve: (K,) f64 each; scale is the first cost."""

    limit: np.ndarray
    drop: np.ndarray
    exponent: np.ndarray
    scale: float

    def at(self, cost: float) -> np.ndarray:
        """(K,) f64 values."""
        return self.limit - self.drop * (cost / self.scale) ** -self.exponent


@dataclass(frozen=True)
class Forecast:
    """The expected gain of the next round in points, with the 95 % interval of its measurement, for ``cost`` more."""

    gain: float
    low: float
    high: float
    cost: float
    limit: float

    @property
    def verdict(self) -> str:
        """Whether the round is worth its cost, in a few words."""
        if self.high - self.low > UNCERTAIN:
            return "too uncertain to tell whether it is worth it"
        if self.gain < WORTH:
            return f"hardly worth it (below {WORTH:g} points)"
        return "though it may bring nothing" if self.low <= 0 else "worth it"

    def told(self, what: str, cost: str) -> str:
        """The forecast in a sentence; ``what`` is measured, ``cost`` counted."""
        return (
            f"next round: {self.gain:+.1f} points of {what} are likely for {self.cost:.0f} more {cost} (95 % interval "
            f"{self.low:+.1f} to {self.high:+.1f}), {self.verdict}"
        )


def fit(cost: np.ndarray, values: np.ndarray, exponents: np.ndarray = EXPONENTS) -> Laws:
    """The power law closest to each curve ``values`` (K,n) in % over ``cost`` (n,) > 0, among ``exponents`` (E,).

    For a given exponent the law is linear; it never falls, and its limit is at most 100.
    """
    scale = float(cost[0])
    basis = (cost / scale) ** -exponents[:, None]  # (E,n)
    centred = basis - basis.mean(1, keepdims=True)
    mean = values.mean(1, keepdims=True)  # (K,1)
    drop = np.maximum(-(values @ centred.T) / (centred**2).sum(1), 0)  # (K,E)
    limit = mean + drop * basis.mean(1)
    above = limit > HIGHEST
    drop = np.where(above, ((HIGHEST - values) @ basis.T) / (basis**2).sum(1), drop)
    limit = np.where(above, HIGHEST, limit)
    errors = ((values[:, None] - (limit[..., None] - drop[..., None] * basis)) ** 2).sum(2)
    best = errors.argmin(1)
    rows = np.arange(len(values))
    return Laws(limit[rows, best], drop[rows, best], exponents[best], scale)


def fit_exactly(cost: np.ndarray, values: np.ndarray) -> Laws:
    """As `fit`, for one curve (n,), with any exponent from the lowest to the highest of the list."""
    from scipy.optimize import minimize_scalar

    def error(exponent: float) -> float:
        law = fit(cost, values[None], np.array([exponent]))
        return float(sum((law.at(each)[0] - value) ** 2 for each, value in zip(cost.tolist(), values, strict=True)))

    place = int(np.searchsorted(EXPONENTS, fit(cost, values[None]).exponent[0]))
    bounds = EXPONENTS[max(place - 1, 0)], EXPONENTS[min(place + 1, len(EXPONENTS) - 1)]
    found = minimize_scalar(error, bounds=bounds, method="bounded", options={"xatol": 1e-9})
    return fit(cost, values[None], np.array([found.x]))


def forecast(costs: Sequence[float], values: Sequence[float], errors: Sequence[float] | None = None) -> Forecast | None:
    """The next round of a curve ``values`` (n,) in % over rising ``costs`` (n,), which costs as much as the last one.

    ``errors`` (n,): standard errors of the values, as far as known. None for fewer than four rounds.
    """
    cost, value = np.array(costs, dtype=np.float64), np.array(values, dtype=np.float64)
    if len(cost) < FEWEST_ROUNDS or (np.diff(cost) <= 0).any() or cost[0] <= 0:
        return None
    law = fit_exactly(cost, value)
    fitted = np.array([law.at(each)[0] for each in cost.tolist()])
    freedom = len(cost) - 3
    spread = np.sqrt(((value - fitted) ** 2).sum() / freedom)
    generator = stream(0, "forecast")
    # the spread of few residuals is itself uncertain: Student's t instead of the normal distribution
    uncertain = spread * np.sqrt(freedom / generator.chisquare(freedom, (DRAWS, 1)))
    known = np.zeros(len(cost)) if errors is None else np.array(errors, dtype=np.float64)
    spreads = np.maximum(uncertain, known)
    drawn = fit(cost, np.clip(fitted + generator.normal(size=spreads.shape) * spreads, 0, HIGHEST))
    more = float(cost[-1] - cost[-2])
    # what is measured next, and what was measured last, miss the curve by as much
    missed = generator.normal(size=(DRAWS, 2)) * spreads[:, -1:]
    gains = drawn.at(cost[-1] + more) - drawn.at(cost[-1]) + missed[:, 0] - missed[:, 1]
    low, high = np.quantile(gains, (0.025, 0.975))
    gain = float(law.at(cost[-1] + more)[0] - law.at(cost[-1])[0])
    return Forecast(gain, min(float(low), gain), max(float(high), gain), more, float(law.limit[0]))
