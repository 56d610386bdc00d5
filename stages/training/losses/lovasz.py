"""Lovász-softmax (Berman, Triki & Blaschko, "The Lovász-Softmax loss", CVPR 2018)."""

from typing import TYPE_CHECKING

from stages.pixels.void import VOID
from stages.training.losses import loss

if TYPE_CHECKING:
    from torch import Tensor


@loss("lovasz")
def lovasz(
    logits: "Tensor", labels: "Tensor", weights: "Tensor | None" = None, settings: None = None
) -> "tuple[Tensor, Tensor]":
    """Lovász-softmax: a surrogate of 1 - IoU of each class, over all labelled pixels of the batch.

    Returns the sum of w_c times the loss of class c over the classes with a label, and the sum of their weights
    (without weights: their number). The quotient is a mean over classes. An IoU does not add up over parts of a batch,
    so each process computes its own, and the quotient is the mean over the classes of all processes.
    """

    labelled = labels != VOID
    targets = labels[labelled].long()
    classes = targets.unique()
    right = targets[:, None] == classes  # (P,K): pixels, classes with a label
    p = logits.permute(0, 2, 3, 1)[labelled].softmax(1)[:, classes]
    errors, order = (right.to(p.dtype) - p).abs().sort(0, descending=True)
    right = right.gather(0, order)
    # IoU loss if the worst n pixels are mistakes, for all n: 1 - (intersection left / union grown)
    size = right.sum(0)
    left, union = size - right.cumsum(0), size + (~right).cumsum(0)
    lost = 1 - left.to(p.dtype) / union.to(p.dtype)
    slopes = lost.diff(dim=0, prepend=lost.new_zeros(1, len(classes)))
    factors = p.new_ones(len(classes)) if weights is None else weights[classes].to(p.dtype)
    return ((errors * slopes).sum(0) * factors).sum(), factors.sum()
