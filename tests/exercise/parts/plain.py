"""An architecture: one convolution on the deepest feature map of a timm backbone."""

from pydantic import Field

from stages.networks.architectures import architecture
from stages.settings.base import PartSettings


class PlainSettings(PartSettings):
    kernel: int = Field(1, ge=1, description="Side of the convolution, odd.")


@architecture("plain", settings=PlainSettings)
def plain(settings, outputs):
    """One convolution on the deepest feature map, resized to the image."""
    from torch import nn

    from stages.networks.layers import resize_to
    from stages.networks.timm_backbone import build_backbone

    class Plain(nn.Module):
        pad_multiple = 16
        support = None

        def __init__(self):
            super().__init__()
            kernel = settings.of_architecture.kernel
            self.backbone, (channels,), _ = build_backbone(settings.backbone, 16, finest=None)
            self.classifier = nn.Conv2d(channels, outputs, kernel, padding=kernel // 2)

        def forward(self, images):
            (deep,) = self.backbone(images)
            return resize_to(self.classifier(deep), images.shape[-2:], align_corners=False)

    return Plain()
