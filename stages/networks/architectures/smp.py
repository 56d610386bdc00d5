"""Architectures of segmentation-models-pytorch under their own names, except those that alseg has itself."""

from typing import TYPE_CHECKING

from stages.networks.architectures import architecture
from stages.settings.network import NetworkSettings

if TYPE_CHECKING:
    from torch import nn

NAMES = ("dpt", "fpn", "linknet", "manet", "pan", "pspnet", "segformer", "unet", "unetplusplus", "upernet")


def smp(settings: NetworkSettings, outputs: int) -> "nn.Module":
    """Network of segmentation-models-pytorch."""
    from stages.networks.smp_adapter import SmpNetwork

    return SmpNetwork(settings.architecture, settings.backbone, outputs)


for name in NAMES:
    architecture(name)(smp)
