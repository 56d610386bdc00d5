"""Mutual information of prediction and weights (Houlsby et al. 2011, arXiv 1112.5745; Gal, Islam & Ghahramani 2017)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from stages.scoring.logits import entropy_of, means_over, softmax
from stages.scoring.measures import measure

if TYPE_CHECKING:
    from torch import Tensor


@measure("bald", passes=True)
def bald(passes: Iterable[Tensor]) -> Tensor:
    """Entropy of the mean prediction minus mean entropy of the predictions, in [0, ln C]: how much passes disagree."""
    mean, doubt = means_over(passes, softmax, lambda logits: entropy_of(softmax(logits)))
    return (entropy_of(mean) - doubt).clamp(min=0)  # rounding
