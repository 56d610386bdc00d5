"""From images of any depth to 8 bits: the values shown as black and as white, given or measured over all images."""

from collections.abc import Sequence
from typing import Any

import numpy as np

Levels = tuple[tuple[float, float], ...]
"""(low, high) of each band, or once for all bands."""
KEPT_BITS = 20  # of a float32: sign, exponent and 11 bits of its digits, exact to 0.05 %
DROPPED_BITS = 32 - KEPT_BITS
SIGN = np.uint32(1 << 31)


class Histogram:
    """How often each value occurs in each band of many images; its memory does not depend on their number.

    Integers of at most 16 bits are counted exactly, all other numbers as the 20 leading bits of a float32.
    """

    def __init__(self) -> None:
        self.exact: np.ndarray | None = None
        self.rounded: np.ndarray | None = None

    def add(self, values: np.ndarray, nodata: float | None) -> None:
        """Counts the pixels (H,W,B) that are finite and not ``nodata``."""
        exact = values.dtype.kind in "iu" and values.dtype.itemsize <= 2
        name, size = ("exact", 1 << 17) if exact else ("rounded", 1 << KEPT_BITS)
        if getattr(self, name) is None:
            setattr(self, name, np.zeros((values.shape[2], size), dtype=np.int64))
        counts = getattr(self, name)
        for band, plane in enumerate(np.moveaxis(values, 2, 0)):
            kept = plane[has_data(plane, nodata)]
            keys = kept.astype(np.int64) + (1 << 16) if exact else sortable(kept)
            counts[band] += np.bincount(keys, minlength=size)

    def percentiles(self, shares: Sequence[float]) -> Levels:
        """The values (low, high) of each band at two ``shares`` (percent) of its pixels; (0, 1) without pixels.

        The value at a share is the smallest that this share of the pixels does not exceed.
        """
        found = []
        none = np.zeros((len(next(each for each in (self.exact, self.rounded) if each is not None)), 0), dtype=np.int64)
        kinds = (none if each is None else each for each in (self.exact, self.rounded))
        for exact, rounded in zip(*kinds, strict=True):
            places = [np.flatnonzero(counts) for counts in (exact, rounded)]
            values = np.concatenate([places[0] - float(1 << 16), unsorted(places[1])])
            counts = np.concatenate([exact[places[0]], rounded[places[1]]])
            order = np.argsort(values, kind="stable")
            total = np.cumsum(counts[order])
            if not len(total):
                found.append((0.0, 1.0))
                continue
            wanted = [max(1, int(np.ceil(total[-1] * share / 100))) for share in shares]
            low, high = (float(values[order][np.searchsorted(total, count)]) for count in wanted)
            found.append((low, high))
        return tuple(found)


def has_data(values: np.ndarray, nodata: float | None) -> np.ndarray:
    """Where ``values`` are finite and not ``nodata``, of the same shape."""
    found = np.isfinite(values)
    return found if nodata is None or np.isnan(nodata) else found & (values != nodata)


def sortable(values: np.ndarray) -> np.ndarray:
    """The leading bits of numbers as float32, (n,) u32 in the order of the numbers."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return np.where(bits & SIGN, ~bits, bits | SIGN) >> np.uint32(DROPPED_BITS)


def unsorted(keys: np.ndarray) -> np.ndarray:
    """The numbers (n,) f64 of what `sortable` returns, rounded towards zero."""
    bits = keys.astype(np.uint32) << np.uint32(DROPPED_BITS)
    negative = (bits & SIGN) == 0
    bits = np.where(negative, ~bits & ~np.uint32((1 << DROPPED_BITS) - 1), bits ^ SIGN)
    return bits.view(np.float32).astype(np.float64)


def scaled(values: np.ndarray, levels: Levels, nodata: float | None = None) -> np.ndarray:
    """(H,W,B) of any type -> u8: low becomes 0, high 255, all between in proportion; pixels without data become 0."""
    found = np.zeros(values.shape, dtype=np.uint8)
    pairs = levels if len(levels) > 1 else levels * values.shape[2]
    for band, (low, high) in enumerate(pairs):
        plane = values[..., band]
        kept = has_data(plane, nodata)
        above = np.clip(plane[kept].astype(np.float64), low, high) - low
        found[kept, band] = (above * 255 / (high - low)).round() if high > low else 255 * (plane[kept] > high)
    return found


def listed_levels(levels: Levels) -> list[list[Any]]:
    """As JSON: whole numbers without a fraction."""
    return [[int(value) if float(value).is_integer() else value for value in pair] for pair in levels]
