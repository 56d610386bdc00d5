"""Colour augmentation on the device: jitter, grey, blur; each sample's draws are made beforehand.

Images of other bands than red, green and blue get brightness, contrast and blur; saturation, hue and grey are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as V

from stages.settings.train import AugmentationSettings


@dataclass(frozen=True)
class ColourDraw:
    """The augmentation of one sample: jitter operations in order with factors, grey or not, blur sigma or 0.

    ``kernel`` is the side of the blur's kernel; 0: from the image's size, 1: no blur.
    """

    jitter: tuple[tuple[str, float], ...]
    grey: bool
    sigma: float
    kernel: int = 0


ADJUST = {
    "brightness": V.adjust_brightness,
    "contrast": V.adjust_contrast,
    "saturation": V.adjust_saturation,
    "hue": V.adjust_hue,
}


def draw_colour(settings: AugmentationSettings, generator: np.random.Generator) -> ColourDraw:
    """Draws an augmentation, with strengths as in torchvision: factor ~ U(max(0, 1-s), 1+s), hue shift ~ U(-s, s)."""
    jitter: list[tuple[str, float]] = []
    if generator.random() < settings.jitter:
        assert settings.jittered is not None
        for name, strength in zip(ADJUST, settings.jittered.jitter_strength, strict=True):
            if strength:
                low, high = (-strength, strength) if name == "hue" else (max(0.0, 1 - strength), 1 + strength)
                jitter.append((name, float(generator.uniform(low, high))))
        jitter = [jitter[index] for index in generator.permutation(len(jitter))]
    grey = bool(generator.random() < settings.grey)
    sigma, kernel, blurred = 0.0, 0, settings.blurred
    if generator.random() < settings.blur:
        assert blurred is not None
        sigma = float(generator.uniform(*blurred.blur_sigma))
    if blurred is not None and blurred.blur_kernel == "sigma":
        kernel = sigma_kernel_size(sigma)
    return ColourDraw(tuple(jitter), grey, sigma, kernel)


def sigma_kernel_size(sigma: float) -> int:
    """floor(3.3 sigma), rounded up to odd: 1 below sigma 0.607 (no blur), then 3, from 1.213 on 5."""
    return int(3.3 * sigma) // 2 * 2 + 1


def blur_kernel_size(height: int, width: int) -> int:
    """2 floor(0.05 min(h, w)) + 1: 37 for 360x480, 25 for 256x512, 33 for 320x320."""
    return 2 * int(0.05 * min(height, width)) + 1


def gaussian_blur(image: Tensor, size: int, sigma: float) -> Tensor:
    """Gaussian blur of (K,H,W) f32 with reflected borders, as in torchvision, but separable: 2k products, not k²."""
    positions = torch.arange(size, device=image.device, dtype=image.dtype) - size // 2
    kernel = torch.exp(-0.5 * (positions / sigma) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, -1)
    half = size // 2
    image = F.pad(image[:, None], (half, half, half, half), mode="reflect")
    image = F.conv2d(image, kernel[:, :, None])
    return F.conv2d(image, kernel[..., None])[:, 0]


def brighter(image: Tensor, factor: float) -> Tensor:
    """(K,H,W) f32 in [0,1] times ``factor``, as torchvision does with colours."""
    return (image * factor).clamp(0, 1)


def contrasted(image: Tensor, factor: float) -> Tensor:
    """(K,H,W) f32 in [0,1] blended with its mean over all bands; in torchvision it is that of the grey image."""
    return ((image - image.mean()) * factor + image.mean()).clamp(0, 1)


ADJUST_BANDS = {"brightness": brighter, "contrast": contrasted}


def augment_colour(images: Tensor, draws: Sequence[ColourDraw]) -> Tensor:
    """(B,K,H,W) f32 in [0,1] -> the same shape, each sample augmented by its own draw."""
    if not any(draw.jitter or draw.grey or draw.sigma for draw in draws):
        return images
    of_image = blur_kernel_size(*images.shape[-2:])
    widest = 2 * min(images.shape[-2:]) - 1  # the widest that reflection allows
    done = []
    for image, draw in zip(images, draws, strict=True):
        colours = len(image) == 3
        for name, factor in draw.jitter:
            if colours:
                image = ADJUST[name](image, factor)
            elif name in ADJUST_BANDS:
                image = ADJUST_BANDS[name](image, factor)
        if draw.grey and colours:
            image = V.rgb_to_grayscale(image, num_output_channels=3)
        size = min(draw.kernel or of_image, widest)
        if draw.sigma and size > 1:
            image = gaussian_blur(image, size, draw.sigma)
        done.append(image)
    return torch.stack(done)
