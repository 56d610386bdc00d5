"""Entropy of classes that do not exclude each other (spec als4gan.md 1.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.scoring.measures import measure

if TYPE_CHECKING:
    from torch import Tensor


@measure("binary-entropy", of="presence")
def binary_entropy(logits: Tensor) -> Tensor:
    """Mean over classes of -p ln p - (1-p) ln(1-p) in nats with p = sigmoid(logit), in [0, ln 2].

    All terms are positive, so nothing cancels.
    """
    from torch.nn.functional import softplus

    distance = logits.abs()  # from p = 1/2; the entropy of p is that of 1-p
    return (softplus(-distance) + distance * (-distance).sigmoid()).mean(1)
