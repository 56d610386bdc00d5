"""Typical images of clusters that nothing was queried of (Hacohen et al. 2022, TypiClust; arXiv 2202.02794)."""

import numpy as np
from pydantic import Field

from stages.selecting.candidates import Candidates
from stages.selecting.rules import rule
from stages.settings.base import PartSettings

SEEDS = 2**31 - 1


class TypicalSettings(PartSettings):
    """Settings of the rule typical."""

    neighbours: int = Field(
        20, ge=1, description="Typical is what is close to this many nearest neighbours in its cluster."
    )
    most_clusters: int = Field(
        500, ge=2, description="Most clusters; fewer if fewer images than that were queried or are now."
    )


@rule("typical", units=("image",), needs=("features",), orders=True, settings=TypicalSettings)
def most_typical(
    pool: Candidates, budget: int, settings: TypicalSettings, generator: np.random.Generator
) -> np.ndarray:
    """Take the image in the densest place of each cluster that none was queried of, the largest clusters first."""
    from stages.selecting.typicality import typical

    seed = int(generator.choice(SEEDS))  # streams of either kind have it
    queried = pool.queried_features
    return typical(pool.features, queried, budget, settings.most_clusters, settings.neighbours, seed)
