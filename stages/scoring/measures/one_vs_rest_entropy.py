"""One-vs-rest entropy (Wu, Marquez-Neila, Rafii-Tari & Sznitman, WACV 2025, OREAL; arXiv 2412.06470)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.scoring.logits import rest_of
from stages.scoring.measures import measure

if TYPE_CHECKING:
    from torch import Tensor


@measure("one-vs-rest-entropy")
def one_vs_rest_entropy(logits: Tensor) -> Tensor:
    """Sum over classes of the entropy of that class against all others, in nats, in [0, C h(1/C)].

    h(p) = -p ln p - (1-p) ln(1-p). A class above one half counts by the sum of the others, so that nothing is
    subtracted from 1.
    """
    import torch
    from torch.special import entr

    powers = (logits - logits.amax(1, keepdim=True)).exp_()
    rest = rest_of(powers).unsqueeze(1)
    p = powers / (1 + rest)
    smaller = torch.where(p > 0.5, rest / (1 + rest), p)
    return (entr(smaller) - (1 - smaller) * (-smaller).log1p()).sum(1)
