"""DeepLabV3+."""

from typing import TYPE_CHECKING

from pydantic import Field

from stages.networks.architectures import architecture
from stages.settings.base import Settings, group
from stages.settings.network import (
    ClassifierSettings,
    DilatedSettings,
    Dropout,
    NetworkSettings,
    Rate,
    ShallowTapSettings,
    SupportableSettings,
)

if TYPE_CHECKING:
    from torch import nn


class SeparableSettings(Settings):
    separable_norm: bool = Field(
        False, description="Also normalise and activate between the two convolutions of a separable one."
    )


class DeepLabV3PlusSettings(ClassifierSettings, DilatedSettings, ShallowTapSettings, SupportableSettings):
    aspp_rates: tuple[Rate, ...] = Field(
        (6, 12, 18), min_length=1, description="Dilation of each 3x3 branch of the pyramid pooling."
    )
    aspp_dropout: Dropout = Field(0.5, description="Dropout after the pyramid pooling.")
    decoder_dropouts: tuple[Dropout, Dropout] = Field(
        (0.5, 0.2), description="Dropout after the first and the second 3x3 convolution of the decoder."
    )
    head_width: int = Field(256, ge=1, description="Channels of the head.")
    low_level_width: int = Field(48, ge=1, description="Channels of the stride-4 branch that joins the decoder.")
    separable: bool = Field(
        False, description="Split each 3x3 convolution of the head into a depthwise and a pointwise one."
    )
    separated: SeparableSettings | None = group(separable="True")


@architecture("deeplabv3plus", support=True, settings=DeepLabV3PlusSettings)
def deeplabv3plus(settings: NetworkSettings, outputs: int) -> "nn.Module":
    """DeepLabV3+: pyramid pooling over deep features, and a decoder that adds shallow ones."""
    from stages.networks.deeplabv3plus import DeepLabV3Plus

    own = settings.of_architecture
    assert isinstance(own, DeepLabV3PlusSettings)
    return DeepLabV3Plus(
        settings.backbone,
        outputs,
        output_stride=own.output_stride,
        aspp_rates=own.aspp_rates,
        aspp_dropout=own.aspp_dropout,
        decoder_dropouts=own.decoder_dropouts,
        head_width=own.head_width,
        low_level_width=own.low_level_width,
        separable=own.separable,
        separable_norm=own.separated is not None and own.separated.separable_norm,
        shallow_tap=own.shallow_tap,
        temperature=own.divisor,
        align_corners=own.align_corners,
    )
