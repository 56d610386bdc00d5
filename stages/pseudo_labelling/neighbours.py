"""The class of a pixel by a vote of the most similar labelled pixels, the references.

Raine et al. (arXiv 2404.09406) give each pixel the class of the labelled pixels of its image that are nearest by the
cosine of features of a frozen DINOv2; the weights of the votes are those of Wu et al. (arXiv 1805.01978, section 3.4).
All tensors are on one device.
"""

import numpy as np
import torch
from torch import Tensor

from stages.pixels.void import VOID

SIMILARITY_TOLERANCE = 1e-6  # cosines differ by rounding
CHUNK = 2**22  # cosines held at a time


def vote(
    features: Tensor, references: Tensor, classes: Tensor, count: int, neighbours: int, temperature: float
) -> Tensor:
    """(P,count) f32: the share of the votes that each of ``count`` classes gets for each pixel.

    features (P,D) and references (R,D) f32 of unit length, R >= 1; classes (R,) i64 of the references. The
    ``neighbours`` references with the highest cosines vote, each with the weight exp(cosine / temperature): all of them
    if there are fewer. Those as similar as the last one vote too, so the order of the references is without effect.
    """
    shares = features.new_empty((len(features), count))
    ones = torch.nn.functional.one_hot(classes, count).to(features.dtype)
    step = max(1, CHUNK // len(references))
    for start in range(0, len(features), step):
        cosines = features[start : start + step] @ references.T
        nearest = cosines.topk(min(neighbours, len(references)), dim=1).values
        weights = ((cosines - nearest[:, :1]) / temperature).exp_()
        weights *= cosines >= nearest[:, -1:] - SIMILARITY_TOLERANCE
        votes = weights @ ones
        shares[start : start + step] = votes / votes.sum(1, keepdim=True)
    return shares


def decide(shares: Tensor, margin: float) -> Tensor:
    """(H,W) u8: the class with the largest of the ``shares`` (C,H,W), C >= 2; 255 if the second is within ``margin``.

    Ties go to the smallest class; with a margin of 0 each pixel has a class.
    """
    first, second = shares.topk(2, dim=0).values
    best = (shares >= first - SIMILARITY_TOLERANCE).int().argmax(0)
    return torch.where(first - second < margin - SIMILARITY_TOLERANCE, VOID, best).to(torch.uint8)


def lowest(keys: np.ndarray, classes: np.ndarray, cap: int) -> np.ndarray:
    """Ascending positions of the ``cap`` lowest ``keys`` (R,) of each of the ``classes`` (R,); of equals the first."""
    order = np.lexsort((keys, classes))
    ordered = classes[order]
    place = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return np.sort(order[place < cap])
