"""Diverse queries: the units of the highest-scored share farthest from those queried (Sener & Savarese 2018)."""

import numpy as np

from stages.runtime.errors import BadInput
from stages.selecting.candidates import Candidates
from stages.selecting.farthest import farthest
from stages.selecting.ranking import highest, pool_size
from stages.selecting.rules import FractionSettings, rule


@rule("k-centre", units=("region", "image"), needs=("features",), orders=True, settings=FractionSettings)
def k_centre(pool: Candidates, budget: int, settings: FractionSettings, generator: np.random.Generator) -> np.ndarray:
    """Take those of the highest-scored share whose features are farthest from all queried so far."""
    features, size = pool.features, pool_size(pool.total, settings.fraction)
    if size <= budget < len(pool):
        raise BadInput(
            f"--rule k-centre cannot choose {budget} {pool.unit}s of the {size} with the highest scores (--fraction "
            f"{settings.fraction:g}). Raise --fraction, for example to 0.5."
        )
    share = np.sort(highest(pool.scores, max(size, budget)))  # sorted: ties by position
    return share[farthest(features[share], pool.queried_features, budget)]
