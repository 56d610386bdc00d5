"""Functions that measures share: maxima and sums over classes, means over passes.

Nothing overflows, no probability is divided by or logged at zero, and pixels whose softmax saturates in float32 still
compare: 1 - max p is summed from the other classes instead of subtracted. torch is imported when a function runs, so
that listing the measures does not load it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def top_two(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The largest and second largest value over the class axis of (B,C,H,W): two (B,H,W) tensors.

    A running maximum is an order of magnitude faster on a CPU than a generic top-k over a strided axis.
    """
    import torch

    classes = logits.unbind(1)
    first = torch.maximum(classes[0], classes[1])
    second = torch.minimum(classes[0], classes[1])
    for values in classes[2:]:
        second = torch.maximum(second, torch.minimum(first, values))
        first = torch.maximum(first, values)
    return first, second


def rest_of(powers: Tensor) -> Tensor:
    """Sum of (B,C,H,W) `powers` (maximum 1) over the classes without one of the maxima, exact where p saturates."""
    import torch

    classes = powers.unbind(1)
    largest, rest = classes[0], torch.zeros_like(classes[0])
    for values in classes[1:]:
        rest = rest + torch.minimum(largest, values)
        largest = torch.maximum(largest, values)
    return rest


def softmax(logits: Tensor) -> Tensor:
    """(B,C,H,W) -> (B,C,H,W) probabilities of exclusive classes."""
    return logits.softmax(1)


def entropy_of(probabilities: Tensor) -> Tensor:
    """-sum p ln p in nats, with 0 ln 0 = 0; (B,C,H,W) probabilities -> (B,H,W)."""
    from torch.special import entr

    return entr(probabilities).sum(1)


def means_over(passes: Iterable[Tensor], *functions: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """The mean over passes of each function of their logits; no pass is kept in memory. ValueError for no pass."""
    totals: list[Tensor] = []
    count = 0
    for logits in passes:
        values = [function(logits) for function in functions]
        totals = [total + value for total, value in zip(totals, values, strict=True)] if totals else values
        count += 1
    if not count:
        raise ValueError("a committee needs at least one pass")
    return [total / count for total in totals]
