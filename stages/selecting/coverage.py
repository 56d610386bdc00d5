"""Numbers that describe a choice of pixels, per round (PixelPick's log, with nothing carried over between rounds)."""

import numpy as np

from stages.runtime.numbers import mean_defined


def spatial_coverage(y: np.ndarray, x: np.ndarray) -> float:
    """Mean Euclidean distance over all pairs of points, in pixels; NaN for fewer than two points."""
    if len(y) < 2:
        return float("nan")
    points = np.stack([y, x], 1).astype(np.float64)
    distances = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
    return float(distances.sum() / (len(y) * (len(y) - 1)))


def mean_coverage(image: np.ndarray, y: np.ndarray, x: np.ndarray) -> float | None:
    """Mean over images of the mean distance between an image's pixels."""
    order = np.argsort(image, kind="stable")
    cuts = np.flatnonzero(np.diff(image[order])) + 1
    groups = np.split(order, cuts)
    return mean_defined([spatial_coverage(y[rows], x[rows]) for rows in groups if len(rows) <= 4096])
