"""From pixels to regions, on the device where the pixels are."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

FIXED_POINT = 2.0**32  # sums of whole numbers do not depend on the order in which a device adds them


def lookup(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(...,h,w) maps of a scaled image -> (...,H,W): pixel (y,x) of the image reads (floor(y h/H), floor(x w/W))."""
    height, width = maps.shape[-2:]
    if (height, width) == tuple(size):
        return maps
    y = torch.arange(size[0], device=maps.device) * height // size[0]
    x = torch.arange(size[1], device=maps.device) * width // size[1]
    return maps.index_select(-2, y).index_select(-1, x)


def region_means(values: Tensor, labels: Tensor, count: int) -> Tensor:
    """(..., H, W) f32 values in 0..100 -> (..., K) f64 means over the pixels of each of the ``count`` regions.

    labels (H,W) i64, -1 = no region. Sums are exact to 2^-33 per pixel and the same on every device.
    """
    bins = labels.reshape(-1) + 1
    sizes = torch.bincount(bins, minlength=count + 1)[1:].clamp(min=1)
    sums = torch.stack([fixed_point_sums(channel, bins, count + 1) for channel in values.reshape(-1, bins.numel())])
    return (sums[:, 1:] / sizes).reshape(*values.shape[:-2], count)


def fixed_point_sums(values: Tensor, bins: Tensor, count: int) -> Tensor:
    """(count,) f64 sums of ``values`` (P,) f32 in 0..100 per bin (P,) i64."""
    whole = (values.double() * FIXED_POINT).round_().long()
    return torch.zeros(count, dtype=torch.int64, device=bins.device).index_add_(0, bins, whole).double() / FIXED_POINT


def score_image(
    logits: Tensor, labels: Tensor, count: int, measure: Callable[[Tensor], Tensor]
) -> tuple[np.ndarray, np.ndarray]:
    """Measure summed (K,C) f64, and pixels (K,C) i64, per region and class predicted for the pixel.

    logits (C,h,w) f32, of the image or of a scaled one; labels (H,W) i64, -1 = no region.
    """
    size, number = (labels.shape[0], labels.shape[1]), len(logits)
    with torch.inference_mode():
        predicted = lookup(logits.max(0).indices, size)  # of equal classes the first
        bins = (labels.reshape(-1) + 1) * number + predicted.reshape(-1)
        pixels = torch.bincount(bins, minlength=(count + 1) * number)
        values = lookup(measure(logits[None])[0], size).reshape(-1)
        sums = fixed_point_sums(values, bins, (count + 1) * number)
    shape = (count + 1, number)
    return sums.view(shape)[1:].cpu().numpy(), pixels.view(shape)[1:].cpu().numpy()
