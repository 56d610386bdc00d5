"""DeepLabV2: several dilated classifiers over the deep features of a dilated backbone, their logits summed."""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stages.networks.layers import ResizingNetwork, in_float32
from stages.networks.timm_backbone import build_backbone

INITIAL_DEVIATION = 0.01
"""Standard deviation of the initial weights of the head."""


class SummedPyramid(nn.ModuleList):
    """Parallel 3x3 convolutions, one per dilation: (B, K, h, w) to the sum of their outputs (B, outputs, h, w)."""

    def __init__(self, inputs: int, outputs: int, rates: tuple[int, ...]):
        super().__init__(nn.Conv2d(inputs, outputs, 3, padding=rate, dilation=rate) for rate in rates)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=INITIAL_DEVIATION)

    def forward(self, features: Tensor) -> Tensor:
        return functools.reduce(torch.add, (branch(features) for branch in self))


class DeepLabV2(ResizingNetwork):
    """DeepLabV2 at a single scale on a timm backbone (spec als4gan.md 3.1; published on resnet101 at output stride 8).

    Maps float images (B, 3, H, W) of any height and width to logits (B, C, H, W), in the dtype of the images. The
    parameters of ``backbone`` are the backbone; the head is ``classifier.<branch>.weight`` and ``.bias``, which have
    learning rates of their own in the published training. The head has neither dropout nor BatchNorm, so it can train
    on a batch of one image. There are no support heads.

    As published, the max-pool of a ResNet rounds its size up: 320 pixels become 41 features and 256 become 33;
    a backbone without such a pool has one feature per ``output_stride`` pixels. The rest of the ResNet is timm's, with
    the published number of parameters. The reference reduces the size in the first 1x1 convolution of a block
    (``stride_first``) and dilates a stage from its first block on (``dilate_from`` first-block); timm does neither, as
    in the training of timm's and torchvision's ImageNet weights.

    Raises:
        BadInput: the backbone is unknown or cannot be dilated to the output stride.
    """

    pad_multiple = 1

    def __init__(
        self, backbone: str, num_classes: int, output_stride: int, aspp_rates: tuple[int, ...], align_corners: bool
    ):
        super().__init__()
        self.align_corners = align_corners
        self.support = None
        self.backbone, (channels,), _ = build_backbone(backbone, output_stride, finest=None)
        pool = getattr(self.backbone, "maxpool", None)
        if isinstance(pool, nn.MaxPool2d):
            pool.ceil_mode = True
        self.classifier = SummedPyramid(channels, num_classes, aspp_rates)

    def encoded(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.backbone(images))

    def decoded(self, features: Sequence[Tensor]) -> Tensor:
        (deep,) = features
        return in_float32(self.classifier, deep)
