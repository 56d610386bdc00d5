"""Cross-entropy."""

from typing import TYPE_CHECKING

from stages.pixels.void import VOID
from stages.training.losses import loss

if TYPE_CHECKING:
    from torch import Tensor


@loss("cross-entropy")
def cross_entropy(
    logits: "Tensor", labels: "Tensor", weights: "Tensor | None" = None, settings: None = None
) -> "tuple[Tensor, Tensor]":
    """Cross-entropy: minus the logarithm of the probability of the label.

    Returns the sum of -w_y ln p_y over the labelled pixels, and the sum of their weights (without weights: their
    number), in f32. The quotient is the mean over all labelled pixels of the batch, whatever image they are in.
    """
    import torch.nn.functional as F

    targets = labels.long()
    total = F.cross_entropy(logits.float(), targets, weights, ignore_index=VOID, reduction="sum")
    labelled = targets != VOID
    mass = labelled.sum() if weights is None else weights[targets[labelled]].sum()
    return total, mass
