"""Edges of images as OpenCV finds them in 8 bits, computed with integers on the device of the images.

After the MADBAL specification, section 4.4: Gaussian, grey, Sobel in both directions. The fixed-point
format is that of OpenCV for 8-bit images, so a CPU and a GPU give the same pixels.
"""

import torch
from torch import Tensor

WEAKEST, STRONGEST = 20, 200  # stronger responses do not count as edges: part of the method
# OpenCV's weights of blue, green and red in 1/2^15. The images are RGB, so 0.114 weighs red: part of the method.
GREY_WEIGHTS, GREY_BITS = (3735, 19235, 9798), 15


def edge_mask(images: Tensor) -> Tensor:
    """(B,3,H,W) RGB in 0..255 -> (B,H,W) bool, true if the edge strength is 20 to 200."""
    strength = edge_strength(images)
    return (strength >= WEAKEST) & (strength <= STRONGEST)


def edge_strength(images: Tensor) -> Tensor:
    """(B,3,H,W) RGB, u8 or floats in 0..255 (rounded to u8 first) -> (B,H,W) f32, whole numbers in 0..255.

    Half the absolute gradients in x and y, each saturated at 255, of the smoothed grey image; halves are rounded to
    even. Beyond its border the image is mirrored about its last pixel, or repeated if a side has only one pixel.
    """
    if images.dtype != torch.uint8:
        images = images.round().clamp(0, 255)
    smooth = smoothed(smoothed(images.to(torch.int16), -2), -1).add_(8).bitwise_right_shift_(4)
    grey = torch.full_like(smooth[:, 0], 1 << (GREY_BITS - 1), dtype=torch.int32)
    for colour, weight in zip(smooth.unbind(1), GREY_WEIGHTS, strict=True):
        grey.add_(colour, alpha=weight)
    grey = grey.bitwise_right_shift_(GREY_BITS).to(torch.int16)
    doubled = torch.zeros_like(grey)
    for along, across in ((-1, -2), (-2, -1)):
        before, _, after = neighbours(smoothed(grey, across), along)
        doubled += (after - before).abs_().clamp_(max=255)
    return (doubled + (doubled >> 1 & 1)).bitwise_right_shift_(1).float()


def smoothed(maps: Tensor, dim: int) -> Tensor:
    """Each value twice plus its two neighbours along `dim`."""
    before, here, after = neighbours(maps, dim)
    return (before + after).add_(here, alpha=2)


def neighbours(maps: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """The values before, at and after each position along `dim`, mirrored about the first and the last."""
    size = maps.shape[dim]
    inner = min(1, size - 1)
    # torch cannot reflect a side of one pixel, nor integers on all devices
    framed = torch.cat([maps.narrow(dim, inner, 1), maps, maps.narrow(dim, size - 1 - inner, 1)], dim)
    return framed.narrow(dim, 0, size), maps, framed.narrow(dim, 2, size)
