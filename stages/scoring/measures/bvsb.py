"""Best versus second best (Joshi, Porikli & Papanikolopoulos 2009), as a ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.scoring.logits import top_two
from stages.scoring.measures import measure

if TYPE_CHECKING:
    from torch import Tensor


@measure("bvsb")
def bvsb(logits: Tensor) -> Tensor:
    """Second largest over largest probability, in [0, 1] (best versus second best)."""
    first, second = top_two(logits)
    return (second - first).exp()
