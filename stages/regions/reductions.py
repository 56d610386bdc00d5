"""Reductions from pixels to regions, on the device of the pixels."""

import numpy as np
import torch
from torch import Tensor

FIXED_POINT = 2.0**32  # sums of whole numbers do not depend on the order in which a device adds them


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


def region_sums(
    values: Tensor, predicted: Tensor, labels: Tensor, count: int, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Values summed (K,C) f64, and pixels (K,C) i64, per region and class predicted for the pixel.

    values (H,W) f32 in 0..100, predicted (H,W) i64; labels (H,W) i64, -1 = no region.
    """
    shape = (count + 1, classes)
    bins = (labels.reshape(-1) + 1) * classes + predicted.reshape(-1)
    pixels = torch.bincount(bins, minlength=shape[0] * shape[1])
    sums = fixed_point_sums(values.reshape(-1), bins, shape[0] * shape[1])
    return sums.view(shape)[1:].cpu().numpy(), pixels.view(shape)[1:].cpu().numpy()


def best_pixels(values: Tensor, labels: Tensor, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Highest value (K,) f32 of each region, and where it is: y and x (K,) i64 (ties: the first in row order).

    values (H,W) f32; labels (H,W) i64, -1 = no region. A region without pixels has 0 at (-1, -1).
    """
    bins, flat = labels.reshape(-1) + 1, values.reshape(-1)
    highest = torch.full((count + 1,), -torch.inf, device=bins.device).scatter_reduce_(0, bins, flat, "amax")
    index = torch.arange(len(bins), device=bins.device)
    index = torch.where(flat == highest[bins], index, len(bins))
    first = torch.full((count + 1,), len(bins), device=bins.device).scatter_reduce_(0, bins, index, "amin")
    found, where = highest[1:].cpu().numpy(), first[1:].cpu().numpy()
    empty = where == len(bins)
    y, x = np.divmod(np.where(empty, -1, where), values.shape[1])
    return np.where(empty, np.float32(0), found), np.where(empty, -1, y), np.where(empty, -1, x)
