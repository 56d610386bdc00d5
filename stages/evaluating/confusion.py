"""The confusion matrix and the measures derived from it."""

import numpy as np
import torch
from torch import Tensor

from stages.evaluating.counts import iou_of_counts, mean_over_classes
from stages.settings.common import Undefined


def confusion_matrix(truth: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """(C,C) i64, rows = truth, on the tensors' device. Pixels with a truth outside 0..C-1 (void) do not count."""
    return confusion_matrices(truth.reshape(1, -1), predicted.reshape(1, -1), classes)[0]


def confusion_matrices(truth: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """(B,C,C) i64, the `confusion_matrix` of each image of a batch (B,...)."""
    truth = truth.long().flatten(1)
    counted = truth < classes
    image = torch.arange(len(truth), device=truth.device).unsqueeze(1)
    pairs = ((image * classes + truth) * classes + predicted.long().flatten(1))[counted]
    return torch.bincount(pairs, minlength=len(truth) * classes * classes).view(-1, classes, classes)


def intersection_over_union(confusion: np.ndarray) -> np.ndarray:
    """(C,) f64 IoU per class of a (C,C) matrix; NaN for classes that neither the truth nor the prediction contains.

    Columns after the first C are predictions of no class, which count as misses.
    """
    return iou_of_counts(np.diag(confusion), confusion.sum(1), confusion[:, : len(confusion)].sum(0))


def mean_iou(confusion: np.ndarray, undefined: Undefined = "skip") -> float:
    """Mean IoU over the classes; NaN without pixels.

    A class in neither truth nor prediction has no IoU: ``undefined`` skips it, or counts it as 0 (madbal.md 9, and the
    original semi-supervised code, als4gan.md 5). With one, each class outside the truth counts as 1, also if it is
    predicted (the public code of multi_class_query.md 10).
    """
    return float(mean_over_classes(intersection_over_union(confusion), confusion.sum(1), undefined))


def mean_iou_present(confusion: np.ndarray) -> float:
    """Mean IoU over the classes that occur in the truth; NaN without any (als4gan.md 5).

    A class that is only predicted counts in `mean_iou`, with IoU 0, but not here.
    """
    present = confusion.sum(1) > 0
    return float(intersection_over_union(confusion)[present].mean()) if present.any() else float("nan")


def mean_accuracy(confusion: np.ndarray) -> float:
    """Mean recall over the classes that occur in the truth; NaN without any (als4gan.md 5)."""
    pixels = confusion.sum(1)
    present = pixels > 0
    return float((np.diag(confusion)[present] / pixels[present]).mean()) if present.any() else float("nan")


def frequency_weighted_iou(confusion: np.ndarray) -> float:
    """Mean IoU weighted by the classes' shares of the truth; NaN without pixels (als4gan.md 5)."""
    pixels = confusion.sum(1)
    # nansum: a class without pixels may have no IoU, and its weight is 0
    weighted = np.nansum(intersection_over_union(confusion) * pixels)
    return float(weighted / pixels.sum()) if pixels.any() else float("nan")


def pixel_accuracy(confusion: np.ndarray) -> float:
    """Share of non-void pixels that are predicted correctly; NaN without pixels."""
    total = confusion.sum()
    return float(np.trace(confusion) / total) if total else float("nan")
