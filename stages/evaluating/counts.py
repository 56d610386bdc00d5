"""IoU from pixel counts alone, and the counts of each image, of which mIoU is resampled."""

from dataclasses import dataclass

import numpy as np

from stages.settings.common import Undefined


def iou_of_counts(hits: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """(...,C) f64 IoU of counts (...,C): pixels predicted right, of the class in the truth, and predicted as it.

    NaN for classes that neither the truth nor the prediction contains.
    """
    hits = np.asarray(hits, dtype=np.float64)
    union = truth + predicted - hits
    return np.divide(hits, union, out=np.full(hits.shape, np.nan), where=union > 0)


def mean_over_classes(iou: np.ndarray, truth: np.ndarray, undefined: Undefined) -> np.ndarray:
    """(...,) f64 mean of IoU (...,C), with ``undefined`` as in `confusion.mean_iou`; NaN if no class has any."""
    known = ~np.isnan(iou)
    values = np.where(known, iou, 0.0)
    if undefined == "one":
        values = np.where(truth == 0, 1.0, values)
    number = known.sum(-1) if undefined == "skip" else np.full(known.shape[:-1], iou.shape[-1])
    any_known = known.any(-1)
    return np.divide(values.sum(-1), number, out=np.full(number.shape, np.nan), where=any_known)


@dataclass(frozen=True)
class ImageCounts:
    """Pixels per image and class, (I,C) i64: predicted right, in the truth, and predicted. Void does not count."""

    images: tuple[str, ...]
    hits: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    undefined: Undefined = "skip"

    def resampled(self, draws: np.ndarray) -> np.ndarray:
        """(B,) f64 mIoU of draws (B,I), which say how often each image counts."""
        drawn = draws.astype(np.float64)  # for the matrix product; exact for numbers of pixels
        hits, truth, predicted = (drawn @ counts for counts in (self.hits, self.truth, self.predicted))
        return mean_over_classes(iou_of_counts(hits, truth, predicted), truth, self.undefined)
