"""Learning from answers that name a set of classes per region.

After Hwang et al., "Active Learning for Semantic Segmentation with Multi-class Label Query" (NeurIPS 2023). Regions
with one class are learned like label maps; pixels of other regions must have one of the classes of the set (merged
positive), and each class of a set must be predicted at its best pixel of the region (prototypical pixel). The logits
are already divided by the temperature.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Over = Literal["several", "all"]
"""The regions that a loss reads: those with at least two classes, or all with at least one."""

FEWEST: dict[Over, int] = {"several": 2, "all": 1}


class SetLosses(NamedTuple):
    """Three losses of a batch, each as a scalar sum (with gradient) and what it counts (i64), on the logits' device."""

    single: tuple[Tensor, Tensor]
    merged: tuple[Tensor, Tensor]
    prototype: tuple[Tensor, Tensor]


def class_set_losses(
    logits: Tensor, answers: Tensor, sets: Tensor, merged_over: Over = "several", prototypes_over: Over = "several"
) -> SetLosses:
    """The losses of the answered regions of a batch, as sums that the caller divides.

    logits (B,C,H,W), computed in f32 at least (f64 stays), fastest in channels-last order; answers (B,H,W) i64, per
    pixel its region's row of `sets` or -1 = not queried; sets (R,C) bool, one row per region of one image. Raises
    IndexError for an answer of R or more (on a GPU torch's own assertion).

    - single: -ln p_c over the pixels of regions with exactly one class c; counts pixels.
    - merged: -ln of the sum of p over the region's classes, over the pixels of `merged_over`; counts pixels.
    - prototype: per visible region of `prototypes_over` and class c in its set, -ln of the largest p_c among its
      visible pixels; counts these pairs. Only that pixel gets a gradient; ties go to the first in scan order.

    An empty set is ignored; a set of all classes costs 0 up to rounding. Without an answer all sums and their gradients
    are exactly 0.
    """
    sizes = sets.sum(1)
    # the leading 0 is for -1, so unqueried pixels are skipped together with those of empty sets
    images, ys, xs = (torch.cat([sizes.new_zeros(1), sizes])[answers + 1] > 0).nonzero(as_tuple=True)
    rows = answers[images, ys, xs]
    # channels last, so that the gradient has the memory order that networks and resizing use
    picked = logits.permute(0, 2, 3, 1)[images, ys, xs]
    # normalised before the classes are summed: subtracting two large sums would lose precision
    log_p = picked.to(torch.promote_types(picked.dtype, torch.float32)).log_softmax(1)
    surprise = -log_p.masked_fill(~sets[rows], -torch.inf).logsumexp(1)

    def over(pixels: Tensor) -> tuple[Tensor, Tensor]:
        return torch.where(pixels, surprise, 0).sum(), pixels.sum()

    prototypes = prototype_pixels(log_p.detach(), rows, sets & (sizes >= FEWEST[prototypes_over]).unsqueeze(1))
    return SetLosses(
        over(sizes[rows] == 1),
        over(sizes[rows] >= FEWEST[merged_over]),
        (log_p[prototypes].neg().sum(), sizes.new_full((), len(prototypes[0]))),
    )


def prototype_pixels(values: Tensor, rows: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """For each wanted (row, class) with a pixel, the pixel with the largest value, the first if tied.

    values (P,C); rows (P,) i64, the row of each pixel; wanted (R,C) bool. Returns pixels and classes, (N,) i64 each.
    """
    pixels, classes = wanted[rows].nonzero(as_tuple=True)
    candidates = values[pixels, classes]
    slots = rows[pixels] * wanted.shape[1] + classes
    largest = candidates.new_full((wanted.numel(),), -torch.inf).scatter_reduce_(0, slots, candidates, "amax")
    # amax would share the gradient among equal pixels, so the pixel itself is looked up
    none = len(slots)
    order = torch.arange(none, device=slots.device).where(candidates == largest[slots], none)
    first = slots.new_full((wanted.numel(),), none).scatter_reduce_(0, slots, order, "amin")
    first = first[first < none]
    return pixels[first], classes[first]


def weighted_sum(losses: SetLosses, coefficients: tuple[float, float, float]) -> Tensor:
    """Sum over (single, merged, prototype) of coefficient * sum / (1 + count), a scalar.

    The 1 is part of the method: a batch without answers costs 0, and one with few answers costs less. With several
    processes the counts must be those of the whole batch.
    """
    parts = [factor * loss / (1 + count) for factor, (loss, count) in zip(coefficients, losses, strict=True)]
    return torch.stack(parts).sum()
