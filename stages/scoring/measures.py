"""Per-pixel uncertainty from logits. Higher = more uncertain = asked sooner.

All measures work on shifted logits, so nothing overflows, no probability is divided by or logged at zero, and pixels
whose softmax saturates in float32 still compare (1 - max p is summed from the other classes instead of subtracted).
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus


def top_two(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The largest and second largest value over the class axis of (B,C,H,W): two (B,H,W) tensors.

    A running maximum is an order of magnitude faster on a CPU than a generic top-k over a strided axis.
    """
    classes = logits.unbind(1)
    first = torch.maximum(classes[0], classes[1])
    second = torch.minimum(classes[0], classes[1])
    for values in classes[2:]:
        second = torch.maximum(second, torch.minimum(first, values))
        first = torch.maximum(first, values)
    return first, second


def rest_of(powers: Tensor) -> Tensor:
    """Sum of (B,C,H,W) `powers` (maximum 1) over the classes without one of the maxima, exact where p saturates."""
    classes = powers.unbind(1)
    largest, rest = classes[0], torch.zeros_like(classes[0])
    for values in classes[1:]:
        rest = rest + torch.minimum(largest, values)
        largest = torch.maximum(largest, values)
    return rest


def least_confidence(logits: Tensor) -> Tensor:
    """1 - max p, in [0, 1 - 1/C]; (B,C,H,W) f32 logits -> (B,H,W) f32."""
    rest = rest_of((logits - logits.amax(1, keepdim=True)).exp_())
    return rest / (1 + rest)


def margin(logits: Tensor) -> Tensor:
    """1 - (p1 - p2) with the two largest probabilities, in [0, 1]; (B,C,H,W) -> (B,H,W)."""
    first, second = top_two(logits)
    rest = rest_of((logits - first.unsqueeze(1)).exp_())
    return (rest + (second - first).exp_()) / (1 + rest)


def entropy(logits: Tensor) -> Tensor:
    """-sum p ln p in nats, in [0, ln C], with 0 ln 0 = 0; (B,C,H,W) -> (B,H,W)."""
    shifted = logits - logits.amax(1, keepdim=True)
    powers = shifted.exp()
    rest = rest_of(powers)
    return rest.log1p() - shifted.mul_(powers).sum(1) / (1 + rest)


def bvsb(logits: Tensor) -> Tensor:
    """Second largest over largest probability, in [0, 1] (best versus second best); (B,C,H,W) -> (B,H,W)."""
    first, second = top_two(logits)
    return (second - first).exp()


def binary_entropy(logits: Tensor) -> Tensor:
    """Mean over classes of -p ln p - (1-p) ln(1-p) in nats with p = sigmoid(logit), in [0, ln 2]; (B,C,H,W) -> (B,H,W).

    For classes that do not exclude each other; spec als4gan.md 1.3. All terms are positive, so nothing cancels.
    """
    distance = logits.abs()  # from p = 1/2; the entropy of p is that of 1-p
    return (softplus(-distance) + distance * (-distance).sigmoid()).mean(1)


def binary_margin(logits: Tensor) -> Tensor:
    """1 - min_c |2 p_c - 1| with p = sigmoid(logit), in [0, 1]; (B,C,H,W) -> (B,H,W). The least decided class counts.

    For classes that do not exclude each other; spec als4gan.md 1.3. |2p - 1| = tanh(|logit| / 2), and 1 minus that is
    twice the smaller of p and 1-p, exact where p saturates.
    """
    return 2 * (-logits.abs().amin(1)).sigmoid()


EXCLUSIVE: dict[str, Callable[[Tensor], Tensor]] = {
    "least-confidence": least_confidence,
    "margin": margin,
    "entropy": entropy,
    "bvsb": bvsb,
}
"""Measures of one class among several (softmax): a constant added to all logits changes nothing."""

INDEPENDENT: dict[str, Callable[[Tensor], Tensor]] = {
    "binary-entropy": binary_entropy,
    "binary-margin": binary_margin,
}
"""Measures of classes that are present or not, each for itself (sigmoid)."""

MEASURES = EXCLUSIVE | INDEPENDENT
