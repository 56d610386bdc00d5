"""DeepLabV3+: pyramid pooling over the deep features of a dilated backbone, and a decoder that adds shallow ones."""

import torch
from torch import Tensor, nn

from stages.networks.inner import Inner, InnerNetwork, SupportPlan
from stages.networks.layers import (
    conv_bn_relu,
    in_float32,
    initialise_convolutions,
    pixel_classifier,
    refuse_single_image,
    resize,
)
from stages.networks.timm_backbone import build_backbone


class ImagePooling(nn.Module):
    """The mean of each feature map, transformed and repeated over the map: (B, K, h, w) to (B, width, h, w)."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.transform = conv_bn_relu(inputs, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        refuse_single_image(self.transform[1], features, "DeepLabV3+")
        pooled = self.transform(features.mean((-2, -1), keepdim=True))
        return pooled.expand(-1, -1, *features.shape[-2:])


class PyramidPooling(nn.Module):
    """Parallel views of the deep features at several dilations and as a whole: (B, K, h, w) to (B, width, h, w)."""

    def __init__(
        self, inputs: int, width: int, rates: tuple[int, ...], dropout: float, separable: bool, separable_norm: bool
    ):
        super().__init__()
        self.branches = nn.ModuleList(
            [
                conv_bn_relu(inputs, width, 1),
                *(conv_bn_relu(inputs, width, 3, rate, separable, separable_norm) for rate in rates),
                ImagePooling(inputs, width),
            ]
        )
        self.project = conv_bn_relu(width * len(self.branches), width, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        return self.dropout(self.project(torch.cat([branch(features) for branch in self.branches], dim=1)))


class DeepLabV3Plus(InnerNetwork):
    """DeepLabV3+ on a timm backbone, as PixelPick trains it (spec pixelpick.md 3.1).

    Maps float images (B, 3, H, W) of any height and width to logits (B, C, H, W). The parameters of ``backbone`` are
    the backbone, all others the head; ``classifier`` maps the features of the decoder to logits and may be replaced.
    It is linear without a ``temperature``, and compares directions with one.

    Its MobileNetV2 at output stride 16 dilates only the stage after the 160-channel one (``dilate_from`` next-stage)
    and pads before the expansion (``pad_first``); by default the network has timm's wiring, with the same parameters.
    ``shallow_tap`` names the backbone module at stride 4 that the decoder reads.

    In training mode a batch of one image raises ValueError, because the BatchNorm of the pooling branch needs at least
    two values per channel; with that BatchNorm in eval mode one image works.

    Raises:
        BadInput: the backbone is unknown or cannot be dilated to the output stride.
    """

    def __init__(
        self,
        backbone: str,
        num_classes: int,
        *,
        output_stride: int,
        aspp_rates: tuple[int, ...],
        aspp_dropout: float,
        decoder_dropouts: tuple[float, float],
        head_width: int,
        low_level_width: int,
        separable: bool,
        separable_norm: bool,
        shallow_tap: str | None,
        temperature: float | None,
        align_corners: bool,
    ):
        super().__init__(backbone, num_classes, output_stride)
        self.head_width, self.low_level_width, self.separable = head_width, low_level_width, separable
        self.separable_norm = separable_norm
        self.decoder_dropouts, self.align_corners = decoder_dropouts, align_corners
        self.backbone, (shallow, deep), _ = build_backbone(backbone, output_stride)
        shallow = self.tap_shallow(shallow_tap, 4, shallow)
        self.pyramid = PyramidPooling(deep, head_width, aspp_rates, aspp_dropout, separable, separable_norm)
        self.low_level = conv_bn_relu(shallow, low_level_width, 1)
        self.decoder = self.new_decoder()
        self.classifier = pixel_classifier(head_width, num_classes, temperature)
        # The low-level convolution keeps torch's own initialisation, as in the reference.
        for part in (self.pyramid, self.decoder, self.classifier):
            initialise_convolutions(part)

    def head_inputs(self, maps: list[Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        shallow, deep = maps
        deep = resize(self.pyramid(deep), shallow, self.align_corners)
        joined = torch.cat([deep, self.low_level(shallow)], dim=1)
        # The pyramid output as a view of `joined`: keeping `deep` too would hold it in memory twice.
        return (joined,), (joined[:, : deep.shape[1]],)

    def embedded(self, inner: Inner) -> Tensor:
        return self.decoder(*inner.head)

    def classified(self, inner: Inner) -> Tensor:
        return in_float32(self.classifier, self.embedded(inner))

    def new_decoder(self) -> nn.Sequential:
        """(B, head_width + low_level_width, h, w), pyramid beside low-level branch, to (B, head_width, h, w)."""
        width = self.head_width
        kind = {"separable": self.separable, "separable_norm": self.separable_norm}
        return nn.Sequential(
            conv_bn_relu(width + self.low_level_width, width, 3, **kind),
            nn.Dropout(self.decoder_dropouts[0]),
            conv_bn_relu(width, width, 3, **kind),
            nn.Dropout(self.decoder_dropouts[1]),
        )

    def new_head(self, outputs: int) -> nn.Module:
        return nn.Sequential(*self.new_decoder(), nn.Conv2d(self.head_width, outputs, 1))

    def support_plan(self, lossiness_width: int) -> SupportPlan:
        return SupportPlan((self.head_width,), 1, lossiness_width)
