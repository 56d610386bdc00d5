"""Entropy (Shannon 1948)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.scoring.logits import rest_of
from stages.scoring.measures import measure

if TYPE_CHECKING:
    from torch import Tensor


@measure("entropy")
def entropy(logits: Tensor) -> Tensor:
    """-sum p ln p in nats, in [0, ln C], with 0 ln 0 = 0."""
    shifted = logits - logits.amax(1, keepdim=True)
    powers = shifted.exp()
    rest = rest_of(powers)
    return rest.log1p() - shifted.mul_(powers).sum(1) / (1 + rest)
