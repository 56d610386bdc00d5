"""Least confidence (Lewis & Gale 1994)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.scoring.logits import rest_of
from stages.scoring.measures import measure

if TYPE_CHECKING:
    from torch import Tensor


@measure("least-confidence")
def least_confidence(logits: Tensor) -> Tensor:
    """1 - max p, in [0, 1 - 1/C]."""
    rest = rest_of((logits - logits.amax(1, keepdim=True)).exp_())
    return rest / (1 + rest)
