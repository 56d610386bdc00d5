"""A draw with weights score^power (Kirsch et al. 2023, "Stochastic batch acquisition", TMLR, arXiv 2106.12059).

Noise keeps a batch of similar units from being queried together. nnActive (Lueth et al. 2025, arXiv 2511.19183) finds
that it beats taking the highest scores.
"""

import numpy as np
from pydantic import Field

from stages.selecting.candidates import Candidates
from stages.selecting.ranking import highest
from stages.selecting.rules import rule
from stages.settings.base import PartSettings

LAST_GROWTH = 100
"""Round after which the power stops growing: by then the highest scores win, and powers must stay finite."""
LEAST = np.finfo(np.float64).tiny
"""Replaces scores of 0 or less: such units are drawn last."""


class PowerSettings(PartSettings):
    """Settings of the rule power."""

    power: float = Field(1.0, ge=0, le=1000, description="Weight of a unit: score to this power; 0: uniform.")
    growth: float = Field(
        1.0, ge=1, le=10, description="Factor on the power per round: later rounds choose more sharply."
    )

    def note(self, round_number: int) -> str:
        if self.growth == 1 or round_number:
            return ""
        return "--growth has no effect in round 0, which is that of every select without --annotations"


@rule("power", settings=PowerSettings)
def draw_by_power(pool: Candidates, budget: int, settings: PowerSettings, generator: np.random.Generator) -> np.ndarray:
    """Draw with weights score^power, without replacement.

    Gumbel top-k: the highest values of power * ln(score) + Gumbel noise are such a draw.
    """
    return highest(noisy(pool, settings, generator), budget)


def noisy(pool: Candidates, settings: PowerSettings, generator: np.random.Generator) -> np.ndarray:
    """(N,) f64 power * ln(score) + standard Gumbel noise."""
    power = settings.power * settings.growth ** min(pool.round, LAST_GROWTH)
    logs = np.log(np.maximum(pool.scores.astype(np.float64), LEAST))
    return power * logs + generator.gumbel(size=len(pool))
