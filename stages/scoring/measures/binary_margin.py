"""Margin of classes that do not exclude each other (spec als4gan.md 1.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.scoring.measures import measure

if TYPE_CHECKING:
    from torch import Tensor


@measure("binary-margin", of="presence")
def binary_margin(logits: Tensor) -> Tensor:
    """1 - min |2 p - 1| over classes with p = sigmoid(logit), in [0, 1]: the least certain class counts.

    |2p - 1| = tanh(|logit| / 2), and 1 minus that is twice the smaller of p and 1-p, exact where p saturates.
    """
    return 2 * (-logits.abs().amin(1)).sigmoid()
