"""LR-ASPP: a light head that weights deep features by their mean and adds a classifier of shallow ones."""

from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.segmentation.lraspp import LRASPPHead

from stages.networks.inner import Inner, InnerNetwork, SupportPlan
from stages.networks.layers import in_float32
from stages.networks.timm_backbone import build_backbone

HEAD_WIDTH = 128
"""Channels within the head, as published and in torchvision."""

LOW_STRIDE = 8
"""Stride of the shallow features."""


class LiteHead(LRASPPHead):
    """torchvision's LRASPPHead on two maps, low (B, K, h, w) and high (B, L, h', w'), to (B, outputs, h, w)."""

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        weighted = self.cbr(high) * self.scale(high)
        weighted = functional.interpolate(weighted, size=low.shape[-2:], mode="bilinear", align_corners=False)
        return in_float32(self.low_classifier, low) + in_float32(self.high_classifier, weighted)


class LRASPP(InnerNetwork):
    """LR-ASPP as in torchvision, on a timm backbone (spec madbal.md 4.1; published on MobileNetV3-Large at 16).

    Maps float images (B, 3, H, W) of any height and width to logits (B, C, H, W). The parameters of ``backbone`` are
    the backbone; ``classifier`` is torchvision's head with its own initialisation. There is no BatchNorm after its
    pooling, so the head can train on a batch of one image.

    On MobileNetV3-Large, torchvision takes the shallow features from the first block of the 40-channel stage
    (``shallow_tap`` blocks.2.0) and dilates the 160-channel stage from its first block on (``dilate_from``
    first-block); by default they are the output of the whole stage, and timm dilates from the second block on.

    Raises:
        BadInput: the backbone is unknown, has no feature map at stride 8, or cannot be dilated to the output stride.
    """

    def __init__(
        self, backbone: str, num_classes: int, output_stride: int, align_corners: bool, shallow_tap: str | None = None
    ):
        super().__init__(backbone, num_classes, output_stride)
        self.align_corners = align_corners
        self.backbone, (self.low, self.high), _ = build_backbone(backbone, output_stride, finest=LOW_STRIDE)
        self.low = self.tap_shallow(shallow_tap, LOW_STRIDE, self.low)
        self.classifier = self.new_head(num_classes)

    def head_inputs(self, maps: list[Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        return tuple(maps), tuple(maps)

    def classified(self, inner: Inner) -> Tensor:
        return self.classifier(*inner.head)

    def new_head(self, outputs: int) -> nn.Module:
        return LiteHead(self.low, self.high, outputs, HEAD_WIDTH)

    def support_plan(self, lossiness_width: int) -> SupportPlan:
        # Published with 256 channels; the other two architectures have 512.
        return SupportPlan((self.low, self.high), 2, max(1, lossiness_width // 2))
