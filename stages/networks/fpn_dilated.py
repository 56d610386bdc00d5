"""A feature pyramid on a dilated backbone whose levels are all upsampled to the input size before they are summed."""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stages.networks.layers import SplitNetwork, in_float32, initialise_convolutions, resize
from stages.networks.timm_backbone import build_backbone
from stages.runtime.errors import BadInput

GROUPS = 32
"""Groups of each GroupNorm, as in the reference."""


class DilatedFPN(SplitNetwork):
    """The FPN of PixelPick on a timm backbone (spec pixelpick.md 3.2; published at output stride 8 on resnet50).

    Maps float images (B, 3, H, W) to logits (B, C, H, W); ValueError unless H and W are multiples of ``pad_multiple``.
    The parameters of ``backbone`` are the backbone, all others the head. There is no dropout, and no BatchNorm in the
    head, so it can train on a batch of one image.

    Raises:
        BadInput: the backbone is unknown or cannot be dilated to the output stride, or half of ``head_width`` does not
            divide into 32 groups.
    """

    def __init__(self, backbone: str, num_classes: int, output_stride: int, head_width: int, align_corners: bool):
        super().__init__()
        width = head_width // 2
        if head_width % (2 * GROUPS):
            raise BadInput(f"--head-width must be a multiple of {2 * GROUPS} for fpn-dilated, not {head_width}.")
        self.align_corners = align_corners
        self.pad_multiple: int = output_stride
        self.support = None
        self.backbone, channels, strides = build_backbone(backbone, output_stride, between=True)
        self.laterals = nn.ModuleList(nn.Conv2d(inputs, head_width, 1) for inputs in channels)
        # One doubling per factor of two in the stride: two at stride 4, three at stride 8, up to the input size.
        self.levels = nn.ModuleList(
            self._growing(head_width, width, doublings=stride.bit_length() - 1) for stride in strides
        )
        self.classifier = nn.Conv2d(width, num_classes, 1)
        for part in (self.laterals, self.levels, self.classifier):
            initialise_convolutions(part)

    def _growing(self, inputs: int, width: int, doublings: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for _ in range(doublings):
            layers += [
                nn.Conv2d(inputs, width, 3, padding=1),
                nn.GroupNorm(GROUPS, width),
                nn.ReLU(inplace=True),
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=self.align_corners),
            ]
            inputs = width
        return nn.Sequential(*layers)

    def encoded(self, images: Tensor) -> tuple[Tensor, ...]:
        height, width = images.shape[-2:]
        if height % self.pad_multiple or width % self.pad_multiple:
            raise ValueError(
                f"fpn-dilated needs height and width to be multiples of {self.pad_multiple}, not {height}x{width}. "
                "Pad the images."
            )
        return tuple(self.backbone(images))

    def features(self, encoded: Sequence[Tensor]) -> Tensor:
        """The input of the classifier, (B, head_width / 2, H, W), from the backbone's maps."""
        maps = [lateral(level) for lateral, level in zip(self.laterals, encoded, strict=True)]
        for finer in reversed(range(len(maps) - 1)):
            maps[finer] = maps[finer] + resize(maps[finer + 1], maps[finer], self.align_corners)
        return functools.reduce(torch.add, (grow(level) for grow, level in zip(self.levels, maps, strict=True)))

    def decoded(self, features: Sequence[Tensor]) -> Tensor:
        return in_float32(self.classifier, self.features(features))
