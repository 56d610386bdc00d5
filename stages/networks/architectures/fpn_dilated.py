"""The feature pyramid of PixelPick."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from stages.networks.architectures import architecture
from stages.settings.network import DilatedSettings, NetworkSettings

if TYPE_CHECKING:
    from torch import nn


class DilatedFPNSettings(DilatedSettings):
    output_stride: Literal[8, 16, 32] = Field(
        8, description="Input size divided by the size of the coarsest feature map."
    )
    align_corners: bool = Field(False, description="Align the corner pixels in bilinear resizing.")
    head_width: int = Field(256, ge=1, description="Channels of the laterals, a multiple of 64.")


@architecture("fpn-dilated", settings=DilatedFPNSettings)
def fpn_dilated(settings: NetworkSettings, outputs: int) -> "nn.Module":
    """Feature pyramid on a dilated backbone, each level upsampled to the input size."""
    from stages.networks.fpn_dilated import DilatedFPN

    own = settings.of_architecture
    assert isinstance(own, DilatedFPNSettings)
    return DilatedFPN(settings.backbone, outputs, own.output_stride, own.head_width, own.align_corners)
