"""Support heads: predictions of intermediate features, weights to mix them, and a prediction of where the loss is high.

They read a segmentation network from outside (spec madbal.md 4.1): its parameters and theirs are disjoint, and the
network computes the same without them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.networks.inner import Inner, InnerNetwork, SupportPlan
from stages.networks.layers import in_float32, initialise_convolutions, resize_to
from stages.networks.side_taps import SideTaps
from stages.settings.network import SupportHeadSettings

KERNEL = 5
"""Side of the transposed convolutions of the coarser side heads."""

LOSSINESS_CHANNELS = 64
"""Channels after the second convolution of the lossiness head."""

SQUEEZED_CHANNELS = 4
"""Channels of the squeeze-excitation bottleneck of the lossiness head."""


class SupportMaps(NamedTuple):
    """All f32: ``sides`` (B, 3, C, H, W) logits, ``mixing`` (B, 3, H, W) with sum 1, ``lossiness`` (B, 2, H, W) logits.

    Channel 0 of ``lossiness`` is for pixels at edges of the image, channel 1 for all others; before the sigmoid.
    """

    sides: Tensor
    mixing: Tensor
    lossiness: Tensor


class SupportHeads(nn.Module):
    """Side classifiers at three depths, a map of weights to mix them, and a prediction of where the loss is high.

    ``mixer`` is a segmentation head with three outputs that reads ``Inner.head``. ``reset`` draws the weights. If the
    head pools into a BatchNorm, training on a batch of one image raises ValueError as it does for the network.
    """

    def __init__(self, mixer: nn.Module, plan: SupportPlan, taps: SideTaps, num_classes: int):
        super().__init__()
        self.mixing_mode = plan.mixing_mode
        finest = taps.strides[0]
        self.sides = nn.ModuleList(
            growing_classifier(channels, num_classes, stride // finest)
            if depth
            else nn.Conv2d(channels, num_classes, 3, padding=1)
            for depth, (channels, stride) in enumerate(zip(taps.channels, taps.strides, strict=True))
        )
        self.mixer = mixer
        *shallow, deepest = plan.deep_channels
        reduced = max(1, deepest // plan.reduction)
        self.reduce = nn.Conv2d(deepest, reduced, 3, padding=1) if plan.reduction > 1 else nn.Identity()
        self.lossiness = lossiness_head(num_classes + sum(shallow) + reduced, plan.lossiness_width)
        self.reset()

    def reset(self) -> None:
        """Draw all weights again (spec madbal.md 4.3): convolutions Kaiming normal, linear layers N(0, 1e-4).

        BatchNorm starts at weight 1, bias 1e-4 and fresh statistics; transposed convolutions and the biases of
        convolutions get torch's default initialisation.
        """
        for part in self.modules():
            if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d | nn.Linear):
                part.reset_parameters()
            if isinstance(part, nn.BatchNorm2d):
                nn.init.constant_(part.bias, 1e-4)
            elif isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=1e-4)
        initialise_convolutions(self)

    def coarse(self, inner: Inner) -> SupportMaps:
        """The maps at the size (h, w) of the finest tap."""
        size = inner.sides[0].shape[-2:]
        sides = torch.stack(
            [cut_to(in_float32(head, side), size) for head, side in zip(self.sides, inner.sides, strict=True)], dim=1
        )
        # In float32 even under autocast: rounded to bfloat16, the three would not sum to 1.
        mixing = brought_to(self.mixer(*inner.head).float(), size, self.mixing_mode).softmax(1)
        mixed = (sides * mixing[:, :, None]).sum(1)
        *shallow, deepest = inner.deep
        deep = [brought_to(features, size) for features in (*shallow, self.reduce(deepest))]
        lossiness = self.lossiness(torch.cat([mixed, *deep], dim=1))
        return SupportMaps(sides, mixing, lossiness.float())

    def forward(self, inner: Inner, size: Sequence[int]) -> SupportMaps:
        """The maps at the height and width ``size``; the softmax of ``mixing`` is taken before it is resized."""
        maps = self.coarse(inner)
        sides = brought_to(maps.sides.flatten(1, 2), size).unflatten(1, maps.sides.shape[1:3])
        return SupportMaps(sides, brought_to(maps.mixing, size), brought_to(maps.lossiness, size))


class Residual(nn.Module):
    """(B, K, h, w) plus the output of two convolutions with a ReLU between them."""

    def __init__(self, channels: int):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        )

    def forward(self, features: Tensor) -> Tensor:
        return features + self.convolutions(features)


class SqueezeExcite(nn.Module):
    """(B, K, h, w) times one factor in 0..1 per image and channel, computed from the means of all channels."""

    def __init__(self, channels: int, squeezed: int):
        super().__init__()
        self.factors = nn.Sequential(
            nn.Linear(channels, squeezed, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(squeezed, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, features: Tensor) -> Tensor:
        return features * self.factors(features.mean((-2, -1)))[..., None, None]


def lossiness_head(inputs: int, width: int) -> nn.Sequential:
    """(B, inputs, h, w) to logits (B, 2, h, w); as published, without a layer between the first two convolutions."""
    return nn.Sequential(
        nn.Conv2d(inputs, width, 3, padding=1),
        nn.Conv2d(width, LOSSINESS_CHANNELS, 3, padding=1),
        Residual(LOSSINESS_CHANNELS),
        SqueezeExcite(LOSSINESS_CHANNELS, SQUEEZED_CHANNELS),
        nn.Conv2d(LOSSINESS_CHANNELS, 2, 3, padding=1),
    )


def growing_classifier(channels: int, num_classes: int, stride: int) -> nn.ConvTranspose2d:
    """(B, channels, h, w) to (B, num_classes, stride * h, stride * w).

    With the smallest padding that gives this size: 2 for a stride of 2 and 1 for 4, as published.
    """
    padding = max(0, -((stride - KERNEL) // 2))
    return nn.ConvTranspose2d(
        channels, num_classes, KERNEL, stride, padding, output_padding=stride - KERNEL + 2 * padding
    )


def cut_to(logits: Tensor, size: Sequence[int]) -> Tensor:
    """``logits`` cropped to ``size``: odd sizes, rounded up at each stride, become too large when upsampled."""
    height, width = size
    return brought_to(logits[..., :height, :width], size)


def brought_to(features: Tensor, size: Sequence[int], mode: str = "bilinear") -> Tensor:
    """``features`` (B, K, h, w) resized to height and width ``size``, corners not aligned."""
    if features.shape[-2:] == tuple(size):
        return features
    if mode == "nearest":
        return functional.interpolate(features, size=tuple(size), mode="nearest")
    return resize_to(features, size, align_corners=False)


def add_support(network: InnerNetwork, settings: SupportHeadSettings) -> None:
    """Add support heads for the classes of ``network``, on torch's default device; its other weights do not change.

    Raises:
        BadInput: the side taps do not exist (see ``InnerNetwork.find_taps``).
    """
    taps = network.find_taps(settings.side_taps)
    mixer = network.new_head(len(taps.modules))
    network.side_taps = taps.modules
    network.support = SupportHeads(mixer, network.support_plan(settings.lossiness_width), taps, network.num_classes)
