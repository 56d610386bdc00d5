"""The pieces that the heads of our own networks share."""

import torch
from torch import Tensor, nn
from torch.nn import functional


def conv_bn_relu(inputs: int, outputs: int, kernel: int, dilation: int = 1, separable: bool = False) -> nn.Sequential:
    """A size-preserving convolution without bias, BatchNorm and ReLU.

    ``separable`` splits a kernel larger than one into a depthwise convolution followed directly by a pointwise one
    (spec multi_class_query.md 8).
    """
    padding = dilation * (kernel // 2)
    if separable and kernel > 1:
        convolutions = [
            nn.Conv2d(inputs, inputs, kernel, padding=padding, dilation=dilation, groups=inputs, bias=False),
            nn.Conv2d(inputs, outputs, 1, bias=False),
        ]
    else:
        convolutions = [nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False)]
    return nn.Sequential(*convolutions, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class CosineClassifier(nn.Conv2d):
    """(B, inputs, h, w) to (B, outputs, h, w): the cosine of each feature and each class vector, over ``temperature``.

    Both are scaled to unit length, so only directions count (spec multi_class_query.md 8). In float32 under autocast
    too: divided by a temperature of 0.1, the rounding of bfloat16 would be larger than what tells classes apart.
    """

    def __init__(self, inputs: int, outputs: int, temperature: float):
        super().__init__(inputs, outputs, 1, bias=False)
        self.temperature = temperature

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            directions = functional.normalize(features.float(), dim=1)
            return functional.conv2d(directions, functional.normalize(self.weight.float(), dim=1)) / self.temperature


def initialise_convolutions(module: nn.Module) -> None:
    """Draw every convolution kernel in ``module`` Kaiming normal (fan-in, gain sqrt(2)); biases stay as they are."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")


def resize(features: Tensor, like: Tensor, align_corners: bool) -> Tensor:
    """``features`` (B, K, h, w), bilinearly brought to the height and width of ``like`` (B, L, H, W)."""
    return functional.interpolate(features, size=like.shape[-2:], mode="bilinear", align_corners=align_corners)
