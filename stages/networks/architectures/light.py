"""A light decoder."""

from typing import TYPE_CHECKING

from pydantic import Field

from stages.networks.architectures import architecture
from stages.networks.architectures.linear import DEPTHS
from stages.settings.network import ClassifierSettings, Dropout, NetworkSettings, SupportableSettings

if TYPE_CHECKING:
    from torch import nn


class LightSettings(ClassifierSettings, SupportableSettings):
    depths: int = Field(3, ge=1, description=DEPTHS)
    head_width: int = Field(128, ge=1, description="Channels of the head.")
    head_dropout: Dropout = Field(0.1, description="Dropout before the classifier.")


@architecture("light", support=True, settings=LightSettings)
def light(settings: NetworkSettings, outputs: int) -> "nn.Module":
    """Light decoder: projected feature maps of a vision transformer, or any other timm model, and one convolution."""
    from stages.networks.light import LightDecoder

    own = settings.of_architecture
    assert isinstance(own, LightSettings)
    return LightDecoder(settings.backbone, outputs, own.depths, own.head_width, own.head_dropout, own.divisor)
