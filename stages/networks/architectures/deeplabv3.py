"""DeepLabV3."""

from typing import TYPE_CHECKING

from pydantic import Field

from stages.networks.architectures import architecture
from stages.settings.network import DilatedSettings, Dropout, NetworkSettings, Rate, SupportableSettings

if TYPE_CHECKING:
    from torch import nn


class DeepLabV3Settings(DilatedSettings, SupportableSettings):
    aspp_rates: tuple[Rate, ...] = Field(
        (6, 12, 18), min_length=1, description="Dilation of each 3x3 branch of the pyramid pooling."
    )
    aspp_dropout: Dropout = Field(0.5, description="Dropout after the pyramid pooling.")


@architecture("deeplabv3", support=True, settings=DeepLabV3Settings)
def deeplabv3(settings: NetworkSettings, outputs: int) -> "nn.Module":
    """DeepLabV3: pyramid pooling over deep features, without a decoder."""
    from stages.networks.deeplabv3 import DeepLabV3

    own = settings.of_architecture
    assert isinstance(own, DeepLabV3Settings)
    return DeepLabV3(settings.backbone, outputs, own.output_stride, own.aspp_rates, own.aspp_dropout, own.align_corners)
