"""Moves maps (tensors) from one grid to another: read at a pixel, or interpolated."""

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.pixels.grids import Size, read_place


def lookup(maps: Tensor, size: Size) -> Tensor:
    """(...,h,w) maps of a scaled image -> (...,H,W): pixel (y,x) of the image reads (floor(y h/H), floor(x w/W))."""
    height, width = maps.shape[-2:]
    if (height, width) == tuple(size):
        return maps
    y = read_place(torch.arange(size[0], device=maps.device), size[0], height)
    x = read_place(torch.arange(size[1], device=maps.device), size[1], width)
    return maps.index_select(-2, y).index_select(-1, x)


def interpolated(maps: Tensor, size: Size) -> Tensor:
    """(...,H,W) -> (...,h,w): bilinear, corners not aligned, not antialiased; `maps` itself if the size is the same.

    At a quarter of the size, a value is the mean of the four in the middle of its block. Meant for logits and for maps
    of weights; edges and labels are read at one pixel by `lookup`.
    """
    if maps.shape[-2:] == torch.Size(size):
        return maps
    stacked = raised(maps).reshape(-1, 1, *maps.shape[-2:])  # as channels, the last bits would depend on their number
    resized = F.interpolate(stacked, size, mode="bilinear", align_corners=False, antialias=False)
    return resized.view(*maps.shape[:-2], *size)


def not_finer(maps: Tensor, size: Size) -> Tensor:
    """(...,h,w) maps interpolated to ``size`` if they have more rows or columns, otherwise unchanged."""
    return interpolated(maps, size) if maps.shape[-2] > size[0] or maps.shape[-1] > size[1] else maps


def raised(values: Tensor) -> Tensor:
    """``values`` in at least f32."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
