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
    flat = values.reshape(-1, bins.numel())
    sums = torch.stack(
        [
            torch.zeros(count + 1, dtype=torch.int64, device=bins.device).index_add_(
                0, bins, (channel.double() * FIXED_POINT).round_().long()
            )
            for channel in flat
        ]
    )
    return (sums[:, 1:].double() / FIXED_POINT / sizes).reshape(*values.shape[:-2], count)


def region_histogram(classes: Tensor, labels: Tensor, count: int, number: int) -> Tensor:
    """(K,C) i64 pixels per class and region; classes (H,W) i64 below ``number``, labels (H,W) i64, -1 = no region."""
    bins = (labels.reshape(-1) + 1) * number + classes.reshape(-1)
    return torch.bincount(bins, minlength=(count + 1) * number).view(count + 1, number)[1:]


def score_image(
    logits: Tensor, labels: Tensor, count: int, measure: Callable[[Tensor], Tensor]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean measure (K,) f64 and pixels per predicted class (K,C) i64 of the ``count`` regions of an image.

    logits (C,h,w) f32, of the image or of a scaled one; labels (H,W) i64, -1 = no region.
    """
    size = (labels.shape[0], labels.shape[1])
    with torch.inference_mode():
        mean = region_means(lookup(measure(logits[None])[0], size), labels, count)
        predicted = lookup(logits.max(0).indices, size)  # of equal classes the first
        histogram = region_histogram(predicted, labels, count, len(logits))
    return mean.cpu().numpy(), histogram.cpu().numpy()
