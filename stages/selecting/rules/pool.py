"""A draw from the highest-scored share (Shin et al. 2021, PixelPick; spec pixelpick.md)."""

import numpy as np

from stages.selecting.candidates import Candidates
from stages.selecting.ranking import highest, pool_size
from stages.selecting.rules import FractionSettings, rule


def pooled(pool: Candidates, budget: int, settings: FractionSettings) -> int:
    """How many of the highest scores are drawn from."""
    return max(pool_size(pool.total, settings.fraction), budget)


@rule("pool", reads=pooled, settings=FractionSettings)
def draw_from_pool(
    pool: Candidates, budget: int, settings: FractionSettings, generator: np.random.Generator
) -> np.ndarray:
    """Draw from the highest-scored share, uniformly without replacement."""
    share = highest(pool.scores, pooled(pool, budget, settings))
    return generator.choice(share, budget, replace=False)
