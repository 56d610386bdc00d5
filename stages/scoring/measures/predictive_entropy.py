"""Entropy of a committee's mean prediction (Gal, Islam & Ghahramani 2017, arXiv 1703.02910)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from stages.scoring.logits import entropy_of, means_over, softmax
from stages.scoring.measures import measure

if TYPE_CHECKING:
    from torch import Tensor


@measure("predictive-entropy", passes=True)
def predictive_entropy(passes: Iterable[Tensor]) -> Tensor:
    """Entropy of the mean of the passes' probabilities in nats, in [0, ln C]."""
    (mean,) = means_over(passes, softmax)
    return entropy_of(mean)
