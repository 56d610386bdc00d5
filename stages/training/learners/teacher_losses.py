"""What a teacher tells its student: labels it is sure enough of, and the loss on them.

The teacher is the exponential mean of the student's weights (Tarvainen & Valpola, "Mean teachers are better role
models", NeurIPS 2017). Its most likely class on the image as it is becomes the label of the changed image if it is sure
enough (Sohn et al., "FixMatch", NeurIPS 2020, equation 4).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.pixels.void import VOID

Threshold = Literal["fixed", "mean", "share"]


def warmed_up(momentum: float, step: int) -> float:
    """The momentum of a mean at its ``step``, from 0: that of a plain mean at first, so that the start is forgotten."""
    return min(momentum, 1 - 1 / (step + 1))


@torch.no_grad()
def move_towards(mean: nn.Module, module: nn.Module, momentum: float) -> None:
    """``mean`` becomes momentum * mean + (1 - momentum) * module: weights and statistics; counts are copied."""
    for own, other in zip(mean.state_dict().values(), module.state_dict().values(), strict=True):
        if own.is_floating_point():
            own.lerp_(other, 1 - momentum)
        else:
            own.copy_(other)


class Thresholds(nn.Module):
    """The confidence from which a predicted class is believed, one per class.

    - fixed: ``confidence`` for all.
    - mean: the running mean confidence of the pixels predicted to be of the class, at most ``confidence``.
    - share: the running mean confidence of all pixels, times the running mean probability of the class over that of the
      most probable class (Wang et al., "FreeMatch", ICLR 2023, equations 5 to 8).

    The buffers are running means over open pixels: ``confidences`` (C,) of the confidence in the predicted class, 0 for
    the others, ``shares`` (C,) of being predicted, and ``probabilities`` (C,).
    """

    confidences: Tensor
    shares: Tensor
    probabilities: Tensor

    def __init__(self, classes: int, kind: Threshold, confidence: float):
        super().__init__()
        self.kind, self.confidence = kind, confidence
        for name in ("confidences", "shares", "probabilities"):
            self.register_buffer(name, torch.zeros(classes))

    def update(self, sums: Tensor, count: Tensor, momentum: float) -> None:
        """Takes in the ``sums`` (3,C) over ``count`` open pixels of all processes, see `confidence_sums`."""
        means = sums / count.clamp(min=1)
        keep = torch.where(count > 0, momentum, 1.0)
        for buffer, mean in zip(self.buffers(), means, strict=True):
            buffer.copy_(keep * buffer + (1 - keep) * mean)

    def forward(self) -> Tensor:
        """(C,) f32 thresholds."""
        if self.kind == "fixed":
            return torch.full_like(self.shares, self.confidence)
        if self.kind == "mean":
            return (self.confidences / self.shares.clamp(min=1e-12)).clamp(max=self.confidence)
        return self.confidences.sum() * self.probabilities / self.probabilities.max().clamp(min=1e-12)


def confidence_sums(probabilities: Tensor, open_pixels: Tensor) -> Tensor:
    """(3,C) f32 sums over the open pixels: confidence by predicted class, times predicted, probability.

    probabilities (B,C,H,W); open_pixels (B,H,W) bool.
    """
    classes = probabilities.shape[1]
    confidence, predicted = (each[open_pixels] for each in probabilities.max(1))
    sums = torch.bincount(predicted, confidence.double(), minlength=classes)
    counts = torch.bincount(predicted, minlength=classes)
    total = torch.where(open_pixels.unsqueeze(1), probabilities, 0).sum((0, 2, 3))
    return torch.stack([sums.float(), counts.float(), total])


def believed(probabilities: Tensor, open_pixels: Tensor, thresholds: Tensor, known: Tensor) -> Tensor:
    """(B,H,W) u8 pseudo-labels, 255 = none: the most likely class of an open pixel if its probability is high enough.

    probabilities (B,C,H,W); open_pixels (B,H,W) bool; thresholds (C,); known (C,) bool, False for classes that are
    never given.
    """
    confidence, predicted = probabilities.max(1)
    sure = open_pixels & known[predicted] & (confidence >= thresholds[predicted])
    return predicted.to(torch.uint8).masked_fill(~sure, VOID)


def taught_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum of -ln p of the pseudo-labels, a scalar; the mean over the views if there are several.

    logits (V*B,C,H,W), one view after the other; targets (B,H,W) u8, 255 = none.
    """
    views = len(logits) // len(targets)
    every = targets.long().repeat(views, 1, 1)
    return F.cross_entropy(logits.float(), every, ignore_index=VOID, reduction="sum") / views
