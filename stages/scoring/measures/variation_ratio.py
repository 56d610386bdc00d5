"""Variation ratio (Freeman 1965, Elementary Applied Statistics; for dropout passes Gal, Islam & Ghahramani 2017)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from stages.scoring.logits import means_over
from stages.scoring.measures import measure

if TYPE_CHECKING:
    from torch import Tensor


@measure("variation-ratio", passes=True)
def variation_ratio(passes: Iterable[Tensor]) -> Tensor:
    """1 - share of the passes that predict the most frequent class, in [0, 1 - 1/C]."""
    (shares,) = means_over(passes, votes)
    return 1 - shares.amax(1)


def votes(logits: Tensor) -> Tensor:
    """(B,C,H,W) 1 at the predicted class (ties: the first), 0 elsewhere."""
    import torch

    return torch.zeros_like(logits).scatter_(1, logits.argmax(1, keepdim=True), 1)
