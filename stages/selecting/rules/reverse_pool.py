"""The highest-scored of a drawn share (Shin et al. 2021, the reverse variant of PixelPick; spec pixelpick.md)."""

import numpy as np

from stages.selecting.candidates import Candidates
from stages.selecting.ranking import highest, pool_size
from stages.selecting.rules import FractionSettings, rule


@rule("reverse-pool", settings=FractionSettings)
def highest_of_draw(
    pool: Candidates, budget: int, settings: FractionSettings, generator: np.random.Generator
) -> np.ndarray:
    """Draw a share uniformly and take its highest-scored."""
    count = min(max(pool_size(pool.total, settings.fraction), budget), len(pool))
    drawn = np.sort(generator.choice(len(pool), count, replace=False))  # sorted: ties by position
    return drawn[highest(pool.scores[drawn], budget)]
