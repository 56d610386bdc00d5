"""Uncertain and diverse queries: k-means++ seeding in feature space, weighted by score.

Ash et al. 2020 (BADGE, arXiv 1906.03671, algorithm 1) draw each query with a probability proportional to the squared
distance to the nearest one before, in a space where uncertain units are far apart. Prabhu et al. 2021 (CLUE, arXiv
2010.08666) cluster plain features, weighted by uncertainty. Here the weight is score times squared distance, and what
was queried in earlier rounds counts as chosen.
"""

import numpy as np
from pydantic import Field

from stages.runtime.errors import BadInput
from stages.selecting.candidates import Candidates
from stages.selecting.farthest import approach
from stages.selecting.ranking import highest
from stages.selecting.rules import rule
from stages.settings.base import PartSettings

LEAST = 1e-12
"""Weight of units with a score of 0 or less, and share of the largest distance that duplicates count as."""


class DiverseSettings(PartSettings):
    """Settings of the rule diverse."""

    candidates: int = Field(
        50, ge=1, description="Choose among this many units per query, those with the highest scores."
    )
    sharpness: float = Field(
        1.0, ge=0, le=100, description="Power of the score in the weight; 0: distance alone, among the candidates."
    )


def compared(pool: Candidates, budget: int, settings: DiverseSettings) -> int:
    """How many of the highest scores are chosen among."""
    return settings.candidates * budget


@rule("diverse", needs=("features",), orders=True, reads=compared, settings=DiverseSettings)
def spread(pool: Candidates, budget: int, settings: DiverseSettings, generator: np.random.Generator) -> np.ndarray:
    """Draw one after the other with weights score x squared distance to the nearest query in feature space."""
    share = np.sort(highest(pool.scores, compared(pool, budget, settings)))  # sorted: ties by position
    features = np.ascontiguousarray(pool.features_of(share), np.float32)
    if not np.isfinite(features).all():
        raise BadInput("The features of some units are not finite. Score again with another model.")
    scores = np.maximum(pool.scores[share].astype(np.float64), 0)
    weights = np.maximum((scores / max(scores.max(), LEAST)) ** settings.sharpness, LEAST)
    return share[drawn_apart(features, np.asarray(pool.queried_features, np.float32), weights, budget, generator)]


def drawn_apart(
    features: np.ndarray, before: np.ndarray, weights: np.ndarray, count: int, generator: np.random.Generator
) -> np.ndarray:
    """(count,) i64 rows of features (N,D) f32 in the order of choice, each once.

    Each is drawn with a probability proportional to weights (N,) > 0 times the squared distance to the nearest of
    ``before`` (M,D) f32 and those drawn; the first without any before by weight alone. Rows at distance 0 come last.
    """
    squared = np.full(len(features), np.inf, dtype=np.float32)
    approach(squared, features, before)
    chosen = np.zeros(count, dtype=np.int64)
    left = weights.copy()
    for place in range(count):
        apart = squared if np.isfinite(squared).all() else np.ones_like(squared)
        apart = np.maximum(apart / max(float((apart * (left > 0)).max()), LEAST), LEAST)
        probability = left * apart
        chosen[place] = generator.choice(len(features), p=probability / probability.sum())
        left[chosen[place]] = 0
        approach(squared, features, features[chosen[place : place + 1]])
    return chosen
