"""A share of the budget spread evenly over predicted classes, the rest over all, by noisy scores.

Lueth et al. 2026, "Finally outshining the random baseline" (ClaSP PE, TMLR, arXiv 2601.13677): two thirds of the
queries are the same number for each class, and noise decays over rounds, ln(score) + Gumbel(0, 1/beta) with beta from 1
to 100. Here a unit counts for the class that is predicted for it; there each class has its own score, entropy times
probability of the class. beta is the power of the rule `power`, which grows by a factor per round.
"""

import numpy as np
from pydantic import Field

from stages.selecting.candidates import Candidates
from stages.selecting.cluster_budgets import best_per_cluster
from stages.selecting.ranking import highest
from stages.selecting.rules import rule
from stages.selecting.rules.power import PowerSettings, noisy


class StratifiedSettings(PowerSettings):
    """Settings of the rule stratified."""

    stratified: float = Field(
        0.66, ge=0, le=1, description="Share of the budget that is spread evenly over the predicted classes."
    )


@rule("stratified", needs=("predicted",), settings=StratifiedSettings)
def by_classes(
    pool: Candidates, budget: int, settings: StratifiedSettings, generator: np.random.Generator
) -> np.ndarray:
    """Draw with weights score^power: a share of the budget evenly over predicted classes, the rest from all."""
    values, strata = noisy(pool, settings, generator), np.flatnonzero(pool.predicted >= 0)
    chosen = np.zeros(0, dtype=np.int64)
    if len(strata):
        _, of_class, sizes = np.unique(pool.predicted[strata], return_inverse=True, return_counts=True)
        allowance = even_shares(sizes, int(settings.stratified * budget + 0.5), generator)
        chosen = strata[best_per_cluster(of_class, values[strata], allowance)]
    values[chosen] = -np.inf
    return np.concatenate([chosen, highest(values, budget - len(chosen))])


def even_shares(sizes: np.ndarray, total: int, generator: np.random.Generator) -> np.ndarray:
    """(K,) i64 numbers that sum to ``total``, or to all of ``sizes`` (K,), at most the sizes, otherwise equal.

    What does not divide evenly goes to classes at random, one each.
    """
    total = min(total, int(sizes.sum()))
    level = highest_level(sizes, total)
    shares = np.minimum(sizes, level)
    open_classes = np.flatnonzero(sizes > level)
    shares[generator.permutation(open_classes)[: total - int(shares.sum())]] += 1
    return shares


def highest_level(sizes: np.ndarray, total: int) -> int:
    """The largest level for which min(size, level) over all ``sizes`` (K,) sums to at most ``total``."""
    rising = np.sort(sizes)
    filled = np.concatenate([[0], np.cumsum(rising)[:-1]])  # by all smaller classes, which give all they have
    levels = (total - filled) // np.arange(len(rising), 0, -1)
    return int(levels[np.argmax(levels < rising)]) if (levels < rising).any() else int(rising[-1])
