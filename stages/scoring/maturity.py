"""How mature a network's intermediate features are: how far side predictions still are from the final one, per pixel.

After the MADBAL specification, section 5. Divergences are in nats. For scoring only: gradients are off.
Half precision is computed in f32, f64 in f64.

The loops over classes keep their temporaries in the cache; whole-tensor formulations took up to twice as long on a CPU.
"""

from math import log
from typing import Literal

import torch
from torch import Tensor

from stages.pixels.maps import raised

Divergence = Literal["pixel", "image"]


@torch.no_grad()
def maturity(logits: Tensor, sides: Tensor, mixing: Tensor, kind: Divergence = "pixel") -> Tensor:
    """Sum over the sides of mixing weight * divergence between final and side prediction, (B,h,w), at least 0.

    logits (B,C,h,w), sides (B,K,C,h,w) logits, mixing (B,K,h,w) weights >= 0. With "pixel" the divergence is
    `jensen_shannon_divergence`; with "image" it is `mean_divergence`, one number per image and side, and an image for
    which it is infinite is infinite at every pixel. ValueError if sides and mixing differ in K.
    """
    logits, sides, mixing = raised(logits), raised(sides), raised(mixing)
    total = torch.zeros_like(mixing[:, 0])
    if kind == "image":
        log_p = logits.log_softmax(1)
        # a weight of exactly 0 would turn an infinite divergence into NaN
        weights = mixing.clamp(min=torch.finfo(mixing.dtype).tiny)
        for side, weight in zip(sides.unbind(1), weights.unbind(1), strict=True):
            total += mean_divergence(log_p, side.log_softmax(1)).view(-1, 1, 1) * weight
        return total
    p = logits.softmax(1)
    terms = p_log_p(p)
    for side, weight in zip(sides.unbind(1), mixing.unbind(1), strict=True):
        total += jensen_shannon_divergence(p, terms, side.softmax(1)).mul_(weight)
    return total


@torch.no_grad()
def mean_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """The divergence as the public code computes it: two (B,C,h,w) log-probabilities -> (B,), one per image.

    The mean over classes and pixels of 1/2 [a ln(a/p) + a ln(a/q)], a = (p + q)/2 (arguments swapped, divided by
    C h w). Infinite, as in that code, if a probability of the image is 0 in the precision at hand, about e^-104 in
    f32; callers must check for that.
    """
    log_p, log_q = raised(log_p), raised(log_q)
    total = torch.zeros_like(log_p[:, 0])
    tiny = torch.finfo(total.dtype).tiny
    for first, second in zip(log_p.unbind(1), log_q.unbind(1), strict=True):
        p, q = first.exp(), second.exp()
        mean = (p + q).mul_(0.5).clamp_(min=tiny)  # not 0, so that two zeros give infinity, not NaN
        logs = first.masked_fill(p == 0, -torch.inf) + second.masked_fill(q == 0, -torch.inf)
        total += mean.log().sub_(logs.mul_(0.5)).mul_(mean)
    # in f64, so that the order of summation, which depends on the threads, does not change the result
    return (total.double().mean((1, 2)) / log_p.shape[1]).to(total.dtype)


def jensen_shannon_divergence(p: Tensor, terms: Tensor, q: Tensor) -> Tensor:
    """The divergence of each pixel, in [0, ln 2]: (B,C,h,w) probabilities p and q, and `terms` = p_log_p(p) -> (B,h,w).

    Sum over classes of 1/2 [p ln(p/a) + q ln(q/a)] with a = (p + q)/2. Exactly symmetric, exactly 0 where p = q, finite
    where probabilities are 0.
    """
    total = torch.zeros_like(p[:, 0])
    for first, term, second in zip(p.unbind(1), terms.unbind(1), q.unbind(1), strict=True):
        # class by class and not as a difference of two entropies, which would lose the digits of small divergences
        total += p_log_p(second).add_(term).mul_(0.5)
        total -= p_log_p((first + second).mul_(0.5))
    return total.clamp_(0, log(2))


def p_log_p(p: Tensor) -> Tensor:
    """p ln p of each value, 0 for 0."""
    return p.clamp(min=torch.finfo(p.dtype).tiny).log_().mul_(p)


def lossiness(maps: Tensor, edges: Tensor) -> Tensor:
    """By how much a predicted high loss raises the score of a pixel, in [1, e]: e^s, (B,h,w).

    maps (B,2,h,w) in [0,1], the first channel for edge pixels and the second for all others; edges (B,h,w) bool.
    """
    return torch.where(edges, raised(maps[:, 0]), raised(maps[:, 1])).exp()
