"""The highest scores."""

import numpy as np

from stages.selecting.candidates import Candidates
from stages.selecting.ranking import highest
from stages.selecting.rules import rule


@rule("top", reads=lambda pool, budget, settings: budget)
def highest_only(pool: Candidates, budget: int, settings: None, generator: np.random.Generator) -> np.ndarray:
    """Take the highest-scored."""
    return highest(pool.scores, budget)
