"""Margin (Scheffer, Decomain & Wrobel 2001)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.scoring.logits import rest_of, top_two
from stages.scoring.measures import measure

if TYPE_CHECKING:
    from torch import Tensor


@measure("margin")
def margin(logits: Tensor) -> Tensor:
    """1 - (p1 - p2) with the two largest probabilities, in [0, 1]."""
    first, second = top_two(logits)
    rest = rest_of((logits - first.unsqueeze(1)).exp_())
    return (rest + (second - first).exp_()) / (1 + rest)
