"""DeepLabV3: pyramid pooling over the deep features of a dilated backbone, without a decoder."""

from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import DeepLabHead

from stages.networks.inner import Inner, InnerNetwork, SupportPlan
from stages.networks.layers import in_float32, refuse_single_image
from stages.networks.timm_backbone import build_backbone


class PyramidHead(DeepLabHead):
    """torchvision's DeepLabHead, (B, K, h, w) to (B, outputs, h, w), with a dropout of any probability."""

    def __init__(self, inputs: int, outputs: int, rates: tuple[int, ...], dropout: float):
        super().__init__(inputs, outputs, rates)
        self[0].project[-1].p = dropout

    def forward(self, features: Tensor) -> Tensor:
        refuse_single_image(self[0].convs[-1][2], features, "DeepLabV3")
        *layers, classifier = self
        for layer in layers:
            features = layer(features)
        return in_float32(classifier, features)


class DeepLabV3(InnerNetwork):
    """DeepLabV3 as in torchvision, on a timm backbone (spec madbal.md 4.1; published on resnet50 at stride 8).

    Maps float images (B, 3, H, W) of any height and width to logits (B, C, H, W). The parameters of ``backbone`` are
    the backbone; ``classifier`` is torchvision's head with its own initialisation, 256 channels wide. On resnet50 the
    names of all tensors are torchvision's, and so are the logits if corners are not aligned.

    In training mode a batch of one image raises ValueError, because the BatchNorm of the pooling branch needs at least
    two values per channel; with that BatchNorm in eval mode one image works.

    Raises:
        BadInput: the backbone is unknown or cannot be dilated to the output stride.
    """

    def __init__(
        self,
        backbone: str,
        num_classes: int,
        output_stride: int,
        aspp_rates: tuple[int, ...],
        aspp_dropout: float,
        align_corners: bool,
    ):
        super().__init__(backbone, num_classes, output_stride)
        self.aspp_rates, self.aspp_dropout, self.align_corners = aspp_rates, aspp_dropout, align_corners
        self.backbone, (self.channels,), _ = build_backbone(backbone, output_stride, finest=None)
        self.classifier = self.new_head(num_classes)

    def head_inputs(self, maps: list[Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        return tuple(maps), tuple(maps)

    def classified(self, inner: Inner) -> Tensor:
        return self.classifier(*inner.head)

    def new_head(self, outputs: int) -> nn.Module:
        return PyramidHead(self.channels, outputs, self.aspp_rates, self.aspp_dropout)

    def support_plan(self, lossiness_width: int) -> SupportPlan:
        return SupportPlan((self.channels,), 4, lossiness_width, "nearest")
