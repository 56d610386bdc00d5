"""A uniform draw, the baseline of all rules."""

import numpy as np

from stages.selecting.candidates import Candidates
from stages.selecting.rules import rule


@rule("uniform")
def uniform(pool: Candidates, budget: int, settings: None, generator: np.random.Generator) -> np.ndarray:
    """Draw from all, regardless of scores, uniformly without replacement."""
    return generator.choice(len(pool), budget, replace=False)
