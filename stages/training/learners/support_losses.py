"""Losses of support heads beside a frozen segmentation network: of side predictions, and of where its loss is high.

After the MADBAL specification, section 4.3. Losses come as sums and what they count, so that several processes can
share the counts before they divide. Logits are computed in f32 at least (f64 stays), under autocast too. Pixels without
a label get a gradient of exactly 0.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.pixels.void import VOID
from stages.training.losses.cross_entropy import cross_entropy


def labelled_losses(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The labelled pixels, (B,H,W) bool, and in scan order their classes (P,) i64 and -ln p_y (P,).

    logits (B,C,H,W), labels (B,H,W) integers, 255 = none. torch raises an error for a label of C or more.
    """
    labelled = labels != VOID
    classes = labels[labelled].long()
    # few pixels are labelled: picking them first saves the softmax of all others
    picked = logits.permute(0, 2, 3, 1)[labelled]
    picked = picked.to(torch.promote_types(picked.dtype, torch.float32))
    return labelled, classes, F.cross_entropy(picked, classes, reduction="none")


@torch.no_grad()
def loss_per_class(logits: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Sums of the unweighted cross-entropy (C,) f64 and labelled pixels (C,) i64 per class, to be summed over images.

    logits (B,C,H,W); labels (B,H,W), 255 = none. Raises ValueError for a label of `classes` or more.
    """
    _, found, losses = labelled_losses(logits, labels)
    counts = torch.bincount(found, minlength=classes)
    if len(counts) > classes:
        raise ValueError(f"A label is {len(counts) - 1}, but there are only {classes} classes.")
    # not bincount with weights, which ignores their dtype if there are none
    sums = torch.zeros(classes, dtype=torch.float64, device=losses.device)
    return sums.index_add_(0, found, losses.double()), counts


def class_thresholds(sums: Tensor, counts: Tensor) -> Tensor:
    """Mean loss of each class, (C,) f64, from sums (C,) f64 and counts (C,) i64; infinite for a class without labels,
    so that nothing is above it."""
    return torch.where(counts > 0, sums.double() / counts.clamp(min=1), torch.inf)


@torch.no_grad()
def lossy_targets(logits: Tensor, labels: Tensor, thresholds: Tensor) -> Tensor:
    """(B,H,W) f32: 1 where the unweighted cross-entropy is above the threshold of the label's class, 0 elsewhere.

    logits (B,C,H,W); labels (B,H,W), 255 = none; thresholds (C,) on the same device.
    """
    labelled, classes, losses = labelled_losses(logits, labels)
    # compared in the dtype of the losses: equal losses must not be above their mean, which may be smaller in f64
    lossy = losses > thresholds.to(losses.dtype)[classes]
    targets = torch.zeros(labels.shape, device=logits.device)
    targets[labelled] = lossy.float()
    return targets


def area_loss(lossiness_logits: Tensor, targets: Tensor, labelled: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """Sums (2,) of the binary cross-entropy with targets and the numbers of pixels (2,) i64: on edges, elsewhere.

    lossiness_logits (B,2,H,W): channel 0 learns the labelled pixels on edges, channel 1 the other labelled ones;
    targets (B,H,W) of 0 and 1; labelled and edges (B,H,W) bool.
    """
    picked = lossiness_logits.permute(0, 2, 3, 1)[labelled]
    picked = picked.to(torch.promote_types(picked.dtype, torch.float32))
    on_edge = edges[labelled]
    logits = torch.where(on_edge, picked[:, 0], picked[:, 1])
    losses = F.binary_cross_entropy_with_logits(logits, targets[labelled].to(logits.dtype), reduction="none")
    parts = torch.stack([on_edge, ~on_edge])
    return torch.where(parts, losses, 0).sum(1), parts.sum(1)


def sum_of_means(sums: Tensor, counts: Tensor) -> Tensor:
    """The sum of the quotients of sums (N,) and counts (N,), a scalar; 0 with gradient 0 for a term without pixels."""
    return (sums / counts.clamp(min=1)).sum()


def side_losses(sides: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> list[tuple[Tensor, Tensor]]:
    """`cross_entropy` of each side prediction: K pairs of its sum and the mass to divide by.

    sides (B,K,C,H,W) logits; labels (B,H,W) u8, 255 = none; class_weights (C,) f32.
    """
    return [cross_entropy(side, labels, class_weights) for side in sides.unbind(1)]
