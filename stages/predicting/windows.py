"""A network over windows of an image, whose probabilities are blended where windows overlap.

The result comes in bands of rows, so that memory depends on the width of the image but not on its height.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from stages.pixels.grids import Size

Bands = Iterator[tuple[int, Tensor]]
"""First row, and (C,rows,W) f32 on the CPU; the bands follow each other without gaps."""


def window_starts(length: int, side: int, overlap: float) -> list[int]:
    """First pixels of the windows that cover a side of ``length``, evenly spaced.

    Neighbours have at least the share ``overlap`` of a window in common.
    """
    if length <= side:
        return [0]
    step = max(1, int(side * (1 - overlap)))
    count = -(-(length - side) // step) + 1
    return [round(index * (length - side) / (count - 1)) for index in range(count)]


def ramp(side: int, overlap: float) -> Tensor:
    """(side,) f32 weights of the pixels of a window: rising over its margins, 1 between them, never 0."""
    margin = max(1, int(side * overlap))
    inside = torch.arange(1, side + 1, dtype=torch.float32)
    return (torch.minimum(inside, inside.flip(0)) / margin).clamp(max=1)


def probability_bands(predict: Callable[[Tensor], Tensor], image: Tensor, side: int, overlap: float) -> Bands:
    """The probabilities of ``image`` (1,3,H,W) u8 from the top down.

    ``predict`` maps (1,3,h,w) u8 to (1,C,h,w) f32 probabilities. It gets the whole image if no side exceeds ``side``,
    otherwise windows with sides of at most ``side``.
    """
    height, width = image.shape[-2:]
    rows, columns = (window_starts(length, side, overlap) for length in (height, width))
    if len(rows) == len(columns) == 1:
        yield 0, predict(image)[0].cpu()
        return
    size: Size = min(side, height), min(side, width)
    weight = ramp(size[0], overlap)[:, None] * ramp(size[1], overlap)
    total = weights = torch.zeros(0)
    for number, top in enumerate(rows):
        for left in columns:
            window = image[..., top : top + size[0], left : left + size[1]]
            found = predict(window.contiguous())[0].cpu()
            if not len(weights):
                total, weights = torch.zeros(len(found), size[0], width), torch.zeros(size[0], width)
            total[:, :, left : left + size[1]] += found * weight
            weights[:, left : left + size[1]] += weight
        end = rows[number + 1] if number + 1 < len(rows) else height
        done = end - top
        yield top, total[:, :done] / weights[:done]
        total, weights = moved_up(total, done), moved_up(weights, done)


def moved_up(values: Tensor, rows: int) -> Tensor:
    """(...,H,W) without its first ``rows`` and with as many rows of zeros below."""
    return torch.nn.functional.pad(values[..., rows:, :], (0, 0, 0, rows))


def resized_bands(bands: Bands, source: Size, target: Size, most: int = 1 << 26) -> Bands:
    """Bands of an image of size ``source`` as bands of size ``target``: bilinear, as torch without align_corners.

    ``most``: values in a band that is returned.
    """
    if source == target:
        yield from bands
        return
    first, kept, row = 0, torch.zeros(0), 0
    for start, band in bands:
        kept = band if not kept.numel() else torch.cat([kept, band], 1)
        available = start + band.shape[1]
        limit = target[0] if available == source[0] else last_row(available, source[0], target[0])
        step = max(1, most // (len(band) * target[1]))
        while row < limit:
            rows = torch.arange(row, min(row + step, limit))
            yield row, blended(blended(kept, 1, rows, source[0], target[0], first), 2, None, source[1], target[1])
            row = int(rows[-1]) + 1
        needed = max(first, int(places(torch.tensor([row]), source[0], target[0])[0]))
        kept, first = kept[:, min(needed, available) - first :], min(needed, available)


def places(rows: Tensor, source: int, target: int) -> Tensor:
    """(n,) f64 positions on a side of ``source`` pixels of the pixels ``rows`` of ``target``."""
    return ((rows.double() + 0.5) * source / target - 0.5).clamp(0, source - 1)


def last_row(available: int, source: int, target: int) -> int:
    """How many rows of ``target`` need only the first ``available`` rows of ``source``."""
    rows = places(torch.arange(target), source, target).floor() + 1
    return int((rows < available).sum())


def blended(values: Tensor, axis: int, rows: Tensor | None, source: int, target: int, first: int = 0) -> Tensor:
    """``values`` along ``axis`` at the pixels ``rows`` (all if None) of ``target``; its first one is ``first``."""
    at = places(torch.arange(target) if rows is None else rows, source, target)
    low = at.floor().long()
    high = (low + 1).clamp(max=source - 1)
    share = (at - low).float().view([-1 if each == axis else 1 for each in range(values.ndim)])
    return values.index_select(axis, low - first) * (1 - share) + values.index_select(axis, high - first) * share
