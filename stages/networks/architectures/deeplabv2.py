"""DeepLabV2."""

from typing import TYPE_CHECKING

from pydantic import Field

from stages.networks.architectures import architecture
from stages.settings.network import DilatedSettings, NetworkSettings, Rate

if TYPE_CHECKING:
    from torch import nn


class DeepLabV2Settings(DilatedSettings):
    aspp_rates: tuple[Rate, ...] = Field((6, 12, 18), min_length=1, description="Dilation of each 3x3 classifier.")


@architecture("deeplabv2", settings=DeepLabV2Settings)
def deeplabv2(settings: NetworkSettings, outputs: int) -> "nn.Module":
    """DeepLabV2: several dilated classifiers over deep features, summed."""
    from stages.networks.deeplabv2 import DeepLabV2

    own = settings.of_architecture
    assert isinstance(own, DeepLabV2Settings)
    return DeepLabV2(settings.backbone, outputs, own.output_stride, own.aspp_rates, own.align_corners)
