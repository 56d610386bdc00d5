"""A rule: a random choice with weights exp(score / temperature)."""

import numpy as np
from pydantic import Field

from stages.selecting.rules import rule
from stages.settings.base import PartSettings


class TemperedSettings(PartSettings):
    temperature: float = Field(0.1, gt=0, description="Higher: closer to a uniform draw.")


@rule("tempered", settings=TemperedSettings)
def tempered(pool, budget, settings, generator):
    """Draw with weights exp(score / temperature), without replacement."""
    noise = generator.gumbel(size=len(pool))
    return np.argsort(-(pool.scores / settings.temperature + noise), kind="stable")[:budget]
