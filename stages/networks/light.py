"""Light heads on the feature maps of any timm backbone: a linear classifier, and a decoder of a few convolutions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stages.networks.block_maps import BlockMaps
from stages.networks.layers import ResizingNetwork, conv_bn_relu, in_float32, initialise_convolutions, pad_to, resize


class LightNetwork(ResizingNetwork):
    """A backbone and a head that reads its maps at the resolution of the finest of them.

    Maps float images (B, 3, H, W) of any height and width to logits (B, C, H, W). Images are padded with zeros, at the
    bottom and right, to a multiple of the backbone's patch or coarsest stride; logits are resized to the padded image
    bilinearly from pixel centres, and cut. The parameters of ``backbone`` are the backbone, all others the head.
    """

    align_corners = False

    def __init__(self, backbone: str, depths: int):
        super().__init__()
        self.support = None
        self.backbone = BlockMaps(backbone, depths)
        self.pad_multiple = self.backbone.multiple

    def encoded(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.backbone(pad_to(images, self.pad_multiple)))

    def enlarged(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        padded = [side + -side % self.pad_multiple for side in size]
        return super().enlarged(logits, padded)[..., : size[0], : size[1]]


class LinearNetwork(LightNetwork):
    """Batch normalisation and one linear layer on the joined maps of ``depths`` blocks (Oquab et al. 2023, 7.4)."""

    def __init__(self, backbone: str, num_classes: int, depths: int):
        super().__init__(backbone, depths)
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
    3x3 convolution in the place of its second linear layer.
    """

    def __init__(self, backbone: str, num_classes: int, depths: int, width: int, dropout: float):
        super().__init__(backbone, depths)
        self.projections = nn.ModuleList(conv_bn_relu(inputs, width, 1) for inputs in self.backbone.channels)
        self.decoder = nn.Sequential(conv_bn_relu(width, width, 3), nn.Dropout(dropout))
        self.classifier = nn.Conv2d(width, num_classes, 1)
        for part in (self.projections, self.decoder, self.classifier):
            initialise_convolutions(part)

    def decoded(self, features: Sequence[Tensor]) -> Tensor:
        maps = [project(each) for project, each in zip(self.projections, features, strict=True)]
        total = maps[0]
        for each in maps[1:]:
            total = total + resize(each, total, self.align_corners)
        return in_float32(self.classifier, self.decoder(total))
