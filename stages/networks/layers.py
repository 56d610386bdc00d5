"""Layers that the heads of our own networks share."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.pixels.maps import raised


def conv_bn_relu(
    inputs: int,
    outputs: int,
    kernel: int,
    dilation: int = 1,
    separable: bool = False,
    separable_norm: bool = False,
) -> nn.Sequential:
    """A size-preserving convolution without bias, BatchNorm and ReLU.

    ``separable`` splits a kernel larger than one into a depthwise convolution followed directly by a pointwise one
    (spec multi_class_query.md 8), or, with ``separable_norm``, with a BatchNorm and ReLU between them (spec
    adaptive_superpixel.md, network).
    """
    padding = dilation * (kernel // 2)
    if separable and kernel > 1:
        between = [nn.BatchNorm2d(inputs), nn.ReLU(inplace=True)] if separable_norm else []
        convolutions = [
            nn.Conv2d(inputs, inputs, kernel, padding=padding, dilation=dilation, groups=inputs, bias=False),
            *between,
            nn.Conv2d(inputs, outputs, 1, bias=False),
        ]
    else:
        convolutions = [nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False)]
    return nn.Sequential(*convolutions, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class CosineClassifier(nn.Conv2d):
    """(B, inputs, h, w) to (B, outputs, h, w): the cosine of each feature and each class vector, over ``temperature``.

    Both are scaled to unit length, so only directions count (spec multi_class_query.md 8). Computed in float32
    even under autocast: at a temperature of 0.1, bfloat16 rounding would exceed the differences between classes.
    """

    def __init__(self, inputs: int, outputs: int, temperature: float):
        super().__init__(inputs, outputs, 1, bias=False)
        self.temperature = temperature

    def forward(self, features: Tensor) -> Tensor:
        return in_float32(self._cosines, features)

    def _cosines(self, features: Tensor) -> Tensor:
        directions = functional.normalize(features, dim=1)
        return functional.conv2d(directions, functional.normalize(self.weight.float(), dim=1)) / self.temperature


def pixel_classifier(inputs: int, outputs: int, temperature: float | None) -> nn.Conv2d:
    """The last layer: linear without a ``temperature``, and a `CosineClassifier` with one."""
    return nn.Conv2d(inputs, outputs, 1) if temperature is None else CosineClassifier(inputs, outputs, temperature)


def in_float32(last: Callable[[Tensor], Tensor], features: Tensor) -> Tensor:
    """What the ``last`` layer of a network computes of its features, in float32 under autocast too (f64 stays).

    Logits that bfloat16 has rounded, to one part in 256, tie at many pixels, and resized in bfloat16 at more of them.
    The layer that computes them is a small part of the network.
    """
    device = features.device.type
    with torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext():  # meta
        return last(raised(features))


def initialise_convolutions(module: nn.Module) -> None:
    """Draw each convolution kernel in ``module`` Kaiming normal (fan-in, gain sqrt(2)); biases do not change."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")


def resize(features: Tensor, like: Tensor, align_corners: bool) -> Tensor:
    """``features`` (B, K, h, w), resized bilinearly to the height and width of ``like`` (B, L, H, W)."""
    return resize_to(features, like.shape[-2:], align_corners)


def resize_to(features: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """``features`` (B, K, h, w), resized bilinearly to the height and width ``size``."""
    return functional.interpolate(features, size=tuple(size), mode="bilinear", align_corners=align_corners)


def pad_to(images: Tensor, multiple: int) -> Tensor:
    """``images`` (B, K, H, W) with zeros at the bottom and right, so that height and width are multiples."""
    below, right = (-side % multiple for side in images.shape[-2:])
    return functional.pad(images, (0, right, 0, below)) if below or right else images


class SplitNetwork(nn.Module):
    """A network that is cut after its backbone: images (B, 3, H, W) to features, and these to logits (B, C, H, W).

    ``backbone`` is only read by ``encoded``, and everything else only by ``decoded``.
    """

    def encoded(self, images: Tensor) -> tuple[Tensor, ...]:
        """The features of the backbone, each (B, ...)."""
        raise NotImplementedError

    def decoded(self, features: Sequence[Tensor]) -> Tensor:
        """Logits (B, C, h, w) at the network's own resolution, in float32 under autocast too."""
        raise NotImplementedError

    def enlarged(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        """What ``decoded`` returns, at the height and width ``size`` of the images."""
        return logits

    def coarse(self, images: Tensor) -> Tensor:
        """Logits (B, C, h, w) at the network's own resolution."""
        return self.decoded(self.encoded(images))

    def forward(self, images: Tensor) -> Tensor:
        return self.enlarged(self.coarse(images), images.shape[-2:])


class ResizingNetwork(SplitNetwork):
    """A network of our own whose last step is to resize its logits to the images."""

    align_corners: bool

    def enlarged(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        return resize_to(logits, size, self.align_corners)


def refuse_single_image(norm: nn.Module, features: Tensor, architecture: str) -> None:
    """Raise ValueError if ``norm``, over one pooled value per image, is in training mode on a batch of one image."""
    if norm.training and features.shape[0] == 1:
        raise ValueError(
            f"{architecture} cannot train on a batch of one image: the BatchNorm of its pooling branch needs two "
            "values per channel. Use a batch size of 2 or more and drop an incomplete last batch of one."
        )
