"""Predictions of images too large to be in memory: by overlapping windows, whose probabilities are blended.

Windows lie on a grid, from the top down. A pixel is finished when no later window covers it, so that only the overlaps
are kept: memory depends on the width of the image times the overlap, and on the size of a window.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from stages.pixels.boxes import Box
from stages.pixels.grids import Size

UNUSED = 0.25  # share of the overlap at the border of a window that does not count where another window does
LEAST_WEIGHT = 1e-6


class Prediction(NamedTuple):
    """Of a window (h,w): probabilities (C,h',w') f32 on the CPU, of all of it or of a part at its top left.

    with_data (h,w) bool: the pixels with data; None: those with probabilities.
    """

    probabilities: Tensor
    with_data: Tensor | None = None


class Windows(Protocol):
    """The windows of an image of ``size``: ``tops`` x ``lefts``, all ``side`` (height, width) with ``overlap`` pixels.

    ``predict`` gives None for a window without data. ``reduced``: the image made smaller, (h,w,3) u8.
    """

    @property
    def size(self) -> Size: ...

    @property
    def tops(self) -> list[int]: ...

    @property
    def lefts(self) -> list[int]: ...

    @property
    def side(self) -> Size: ...

    @property
    def overlap(self) -> int: ...

    def predict(self, row: int, column: int) -> Prediction | None: ...

    def reduced(self, size: Size) -> np.ndarray: ...


@dataclass(frozen=True)
class Finished:
    """Probabilities (C,h,w) f32 of the pixels of ``box``, which no later window changes.

    with_data (h,w) bool: the pixels that have any. ``row_ends``: all rows down to the end of the box are finished.
    """

    box: Box
    probabilities: Tensor
    with_data: Tensor
    row_ends: bool


def even_starts(length: int, side: int, overlap: int, multiple: int) -> tuple[list[int], int]:
    """First pixels of the windows that cover a side of ``length``, evenly spaced, and their side.

    Windows are no longer than ``side`` but no longer than needed either (rounded up to ``multiple``), so that they have
    little more than ``overlap`` pixels in common.
    """
    if length <= side:
        return [0], length
    count = -(-(length - overlap) // (side - overlap))
    needed = -(-(length + (count - 1) * overlap) // count)
    side = min(side, -(-needed // multiple) * multiple)
    return [round(index * (length - side) / (count - 1)) for index in range(count)], side


def side_weights(start: int, side: int, length: int, overlap: int) -> Tensor:
    """(side,) f32 weights of the pixels of a window that begins at ``start`` on a side of ``length``.

    They rise over the overlap with the next window, but for a part of it at the border, and are 1 at the border of the
    image. A network that looks no farther than that part gives no seams at all.
    """
    inside = torch.arange(side, dtype=torch.float32) + 0.5
    unused = int(overlap * UNUSED)
    rise = max(1.0, float(overlap - 2 * unused))
    weights = torch.ones(side)
    if start > 0 and overlap:
        weights = torch.minimum(weights, (inside - unused) / rise)
    if start + side < length and overlap:
        weights = torch.minimum(weights, (side - inside - unused) / rise)
    return weights.clamp(LEAST_WEIGHT, 1)


def finished_parts(windows: Windows) -> Iterator[Finished]:
    """The probabilities of the image, part by part: windows from left to right, rows of them from the top down."""
    (height, width), (window_height, window_width) = windows.size, windows.side
    ends = [*windows.tops[1:], height], [*windows.lefts[1:], width]
    below = torch.zeros(0)  # (C+1,rows,W) sums of finished rows of windows for the rows below them, and their weights
    for row, (top, bottom) in enumerate(zip(windows.tops, ends[0], strict=True)):
        over = side_weights(top, window_height, height, windows.overlap)
        right = torch.zeros(0)  # (C+1,h,columns) sums for the columns to the right
        following = torch.zeros(0)
        for column, (left, end) in enumerate(zip(windows.lefts, ends[1], strict=True)):
            across = side_weights(left, window_width, width, windows.overlap)
            found = windows.predict(row, column)
            sums = added(weighted(found, over[:, None] * across), right)
            done, right = sums[..., : end - left], sums[..., end - left :]
            if len(below):
                done = added(done, below[..., left:end])
            kept = done[:, bottom - top :]
            if len(kept) and kept.shape[1]:
                if not len(following):
                    following = torch.zeros(len(kept), kept.shape[1], width)
                following[..., left:end] = kept
            yield finished(Box(top, left, bottom - top, end - left), done[:, : bottom - top], found, end == width)
        below = following


def finished(box: Box, sums: Tensor, found: Prediction | None, row_ends: bool) -> Finished:
    """The pixels of ``box``, at the top left of the window predicted last, from their ``sums`` (C+1,h,w) or (0,h,w)."""
    if found is None or not len(sums):
        nothing = torch.zeros(box.height, box.width, dtype=torch.bool)
        return Finished(box, sums[:-1], nothing, row_ends)
    with_data = sums[-1] > 0
    if found.with_data is not None:
        with_data &= found.with_data[: box.height, : box.width]
    return Finished(box, sums[:-1] / sums[-1:].clamp(min=LEAST_WEIGHT**3), with_data, row_ends)


def weighted(prediction: Prediction | None, weight: Tensor) -> Tensor:
    """(C+1,h,w) probabilities times ``weight`` (h,w), and the weight; 0 where there are none. (0,h,w) without any."""
    if prediction is None:
        return torch.zeros(0, *weight.shape)
    probabilities = prediction.probabilities
    found = torch.zeros(len(probabilities) + 1, *weight.shape)
    height, width = probabilities.shape[-2:]
    found[:-1, :height, :width] = probabilities
    found[-1, :height, :width] = 1
    return found.mul_(weight)


def added(sums: Tensor, more: Tensor) -> Tensor:
    """``sums`` (C+1,h,w) plus ``more`` (C+1,h',w') at their top left; either may be of no window at all."""
    if not len(more):
        return sums
    if not len(sums):
        sums = torch.zeros(len(more), *sums.shape[1:])
    sums[:, : more.shape[1], : more.shape[2]] += more
    return sums
