"""Light heads on the feature maps of any timm backbone: a linear classifier, and a decoder of a few convolutions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stages.networks.block_maps import BlockMaps
from stages.networks.inner import Inner, InnerNetwork, SupportPlan
from stages.networks.layers import conv_bn_relu, in_float32, initialise_convolutions, pad_to, pixel_classifier, resize
from stages.networks.side_taps import COUNT, SideTaps
from stages.runtime.errors import BadInput


class LightNetwork(InnerNetwork):
    """A backbone and a head that reads its maps at the resolution of the finest of them.

    Maps float images (B, 3, H, W) of any height and width to logits (B, C, H, W). Images are padded with zeros, at the
    bottom and right, to a multiple of the backbone's patch or coarsest stride; logits are resized to the padded image
    bilinearly from pixel centres, and cut. The parameters of ``backbone`` are the backbone, all others the head.
    """

    align_corners = False

    backbone: BlockMaps

    def __init__(self, backbone: str, num_classes: int, depths: int):
        maps = BlockMaps(backbone, depths)
        super().__init__(backbone, num_classes, max(maps.strides))
        self.backbone = maps
        self.pad_multiple = self.backbone.multiple

    def encoded(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.backbone(pad_to(images, self.pad_multiple)))

    def enlarged(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        padded = [side + -side % self.pad_multiple for side in size]
        return super().enlarged(logits, padded)[..., : size[0], : size[1]]


class LinearNetwork(LightNetwork):
    """Batch normalisation and one linear layer on the joined maps of ``depths`` blocks (Oquab et al. 2023, 7.4)."""

    def __init__(self, backbone: str, num_classes: int, depths: int):
        super().__init__(backbone, num_classes, depths)
        inputs = sum(self.backbone.channels)
        self.norm = nn.BatchNorm2d(inputs)
        self.classifier = nn.Conv2d(inputs, num_classes, 1)
        nn.init.normal_(self.classifier.weight, std=0.01)
        assert self.classifier.bias is not None
        nn.init.zeros_(self.classifier.bias)

    def decoded(self, features: Sequence[Tensor]) -> Tensor:
        finest, *others = features
        joined = torch.cat([finest, *(resize(each, finest, self.align_corners) for each in others)], dim=1)
        return in_float32(self.classifier, self.norm(joined))


class LightDecoder(LightNetwork):
    """Each map projected to ``width`` channels, their sum, and two convolutions with a dropout before the classifier.

    The projections and their sum are those of the all-MLP decoder of SegFormer (Xie et al. 2021, section 3.2), with a
    3x3 convolution in the place of its second linear layer. The classifier compares directions with a ``temperature``.
    Support heads read the finest maps; their mixing and lossiness read the sum.
    """

    def __init__(
        self, backbone: str, num_classes: int, depths: int, width: int, dropout: float, temperature: float | None = None
    ):
        super().__init__(backbone, num_classes, depths)
        self.head_width, self.head_dropout = width, dropout
        self.projections = nn.ModuleList(conv_bn_relu(inputs, width, 1) for inputs in self.backbone.channels)
        self.decoder = self.new_decoder()
        self.classifier = pixel_classifier(width, num_classes, temperature)
        for part in (self.projections, self.decoder, self.classifier):
            initialise_convolutions(part)

    def find_taps(self, names: tuple[str, ...]) -> SideTaps:
        if names:
            raise BadInput("--side-taps does not apply to architecture light. Omit it, or choose deeplabv3plus.")
        strides, channels = self.backbone.strides[:COUNT], self.backbone.channels[:COUNT]
        if len(strides) < COUNT:
            raise BadInput(f"Support heads of architecture light read {COUNT} maps. Set --depths {COUNT} or more.")
        return SideTaps(tuple(f"map {depth}" for depth in range(COUNT)), tuple(channels), tuple(strides))

    def inner(self, images: Tensor) -> Inner:
        maps = self.encoded(images)
        return Inner(maps[: len(self.side_taps)], *self.head_inputs(list(maps)))

    def decoded(self, features: Sequence[Tensor]) -> Tensor:
        return self.classified(Inner((), *self.head_inputs(list(features))))

    def head_inputs(self, maps: list[Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        total, *others = [project(each) for project, each in zip(self.projections, maps, strict=True)]
        for each in others:
            total = total + resize(each, total, self.align_corners)
        return (total,), (total,)

    def embedded(self, inner: Inner) -> Tensor:
        return self.decoder(*inner.head)

    def classified(self, inner: Inner) -> Tensor:
        return in_float32(self.classifier, self.embedded(inner))

    def new_decoder(self) -> nn.Sequential:
        """(B, head_width, h, w) to the same."""
        return nn.Sequential(conv_bn_relu(self.head_width, self.head_width, 3), nn.Dropout(self.head_dropout))

    def new_head(self, outputs: int) -> nn.Module:
        return nn.Sequential(*self.new_decoder(), nn.Conv2d(self.head_width, outputs, 1))

    def support_plan(self, lossiness_width: int) -> SupportPlan:
        return SupportPlan((self.head_width,), 1, lossiness_width)
