"""A linear classifier of patches."""

from typing import TYPE_CHECKING

from pydantic import Field

from stages.networks.architectures import architecture
from stages.settings.base import PartSettings
from stages.settings.network import NetworkSettings

if TYPE_CHECKING:
    from torch import nn


DEPTHS = (
    "Feature maps that the head reads: of a transformer after evenly spaced blocks, the last included; of other "
    "backbones the last ones."
)


class LinearSettings(PartSettings):
    depths: int = Field(1, ge=1, description=DEPTHS)


@architecture("linear", settings=LinearSettings)
def linear(settings: NetworkSettings, outputs: int) -> "nn.Module":
    """Linear classifier of the features of a vision transformer, or of any other timm model."""
    from stages.networks.light import LinearNetwork

    own = settings.of_architecture
    assert isinstance(own, LinearSettings)
    return LinearNetwork(settings.backbone, outputs, own.depths)
