"""The pixels of a region that keep its label: those to the right of the knee of its sorted confidences.

Source: adaptive_superpixel.md 2.8. The difference curve of values y_0 .. y_(m-1) is d_i = (y_i - min) / (max - min)
- i / (m - 1): how far the curve, scaled into the unit square, lies above the diagonal. Equal values of d differ by
rounding, so all comparisons of d allow for TOLERANCE.
"""

from typing import Literal

import numpy as np

TOLERANCE = 1e-12


def differences(curves: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The difference curves (A,M) f64, -inf after the end of a curve, and which curves have one (A,) bool.

    curves (A,M) f64, points (A,) int: curve a has its first points[a] values. A constant curve, or one with
    fewer than two points, has no difference curve.
    """
    column = np.arange(curves.shape[1])
    inside = column < points[:, None]
    lowest = np.where(inside, curves, np.inf).min(1, initial=np.inf)
    span = np.where(inside, curves, -np.inf).max(1, initial=-np.inf) - lowest
    usable = (points >= 2) & (span > 0)
    lowest, span = np.where(usable, lowest, 0.0)[:, None], np.where(usable, span, 1.0)[:, None]
    # Padding may have any value, including values that overflow when scaled.
    scaled = (np.where(inside, curves, 0.0) - lowest) / span
    return np.where(inside, scaled - column / np.maximum(points - 1, 1)[:, None], -np.inf), usable


def knee_first(curves: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Index of the first knee of each curve by Kneedle (sensitivity 1, concave, increasing), (A,) i64; -1: none.

    curves (A,M) f64, points (A,) int as in `differences`. From the first local maximum of d on, each maximum becomes
    the candidate and sets the threshold d - 1 / (m - 1), each minimum sets it to 0; the candidate is the knee as soon
    as d falls below the threshold.
    """
    difference, usable = differences(curves, points)
    knee = np.full(len(curves), -1, np.int64)
    candidate = np.full(len(curves), -1, np.int64)
    threshold = np.full(len(curves), -np.inf)
    step = 1 / np.maximum(points - 1, 1)
    for i in range(curves.shape[1] - 1):
        before, here, after = difference[:, max(i - 1, 0)], difference[:, i], difference[:, i + 1]
        scanned = usable & (knee < 0) & (i < points - 1)
        maximum = scanned & (here >= before - TOLERANCE) & (here >= after - TOLERANCE)
        candidate[maximum] = i
        threshold[maximum] = (here - step)[maximum]
        # A plateau is both a maximum and a minimum; the minimum is applied last, as in the reference.
        threshold[scanned & (candidate >= 0) & (here <= before + TOLERANCE) & (here <= after + TOLERANCE)] = 0.0
        knee = np.where(scanned & (after < threshold - TOLERANCE), candidate, knee)
    return knee


def knee_max(curves: np.ndarray, points: np.ndarray, min_delta: float) -> np.ndarray:
    """Index of the largest d of each curve, the first if tied, (A,) i64; -1 if it is not above ``min_delta``.

    curves (A,M) f64, points (A,) int as in `differences`.
    """
    difference, usable = differences(curves, points)
    largest = difference.max(1, initial=-np.inf)
    found = usable & (largest > min_delta + TOLERANCE)
    first = (difference >= largest[:, None] - TOLERANCE).argmax(1) if curves.shape[1] else np.zeros(len(curves))
    return np.where(found, first, -1).astype(np.int64)


def sieve(
    confidence: np.ndarray,
    owner: np.ndarray,
    count: int,
    mode: Literal["max", "first", "none"],
    samples: int,
    min_pixels: int,
    min_delta: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The pixels that keep the label of their region: their confidence reaches the region's threshold.

    confidence (P,) f32 or f64, finite: probability of the region's label; owner (P,) int: the region of each pixel, 0
    to count - 1, pixels in any order. A region's curve is every step-th of its n sorted confidences, step =
    max(1, n // samples). Its threshold is the confidence at the knee (``mode``: the largest d, or the first knee). With
    mode "none", without a knee, and in regions of fewer than ``min_pixels`` pixels, the threshold is the lowest
    confidence, so that all pixels are kept.

    Returns kept (P,) bool, at least one pixel of each region that has any, and threshold (count,) f64, NaN for
    regions without pixels.
    """
    confidence = confidence.astype(np.float64, copy=False)
    size = np.bincount(owner, minlength=count)
    begin = np.cumsum(size) - size
    # By confidence, then stably by region: small integers are sorted by radix, which is much faster than lexsort.
    order = np.argsort(confidence)
    order = order[np.argsort(owner[order].astype(np.min_scalar_type(count)), kind="stable")]
    ordered = confidence[order]
    threshold = np.full(count, np.nan)
    threshold[size > 0] = ordered[begin[size > 0]]

    regions = np.flatnonzero((size >= min_pixels) & (size > 0))
    if mode != "none" and len(regions):
        step = np.maximum(size[regions] // samples, 1)
        points = -(-size[regions] // step)
        # Columns after the end of a curve repeat its last value.
        column = np.minimum(np.arange(points.max()), points[:, None] - 1)
        curves = ordered[begin[regions, None] + column * step[:, None]]
        knee = knee_max(curves, points, min_delta) if mode == "max" else knee_first(curves, points)
        cut = np.flatnonzero(knee >= 0)
        threshold[regions[cut]] = curves[cut, knee[cut]]
    return confidence >= threshold[owner], threshold
