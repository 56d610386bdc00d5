"""LR-ASPP."""

from typing import TYPE_CHECKING

from stages.networks.architectures import architecture
from stages.settings.network import DilatedSettings, NetworkSettings, ShallowTapSettings, SupportableSettings

if TYPE_CHECKING:
    from torch import nn


class LRASPPSettings(DilatedSettings, ShallowTapSettings, SupportableSettings):
    pass


@architecture("lraspp", support=True, settings=LRASPPSettings)
def lraspp(settings: NetworkSettings, outputs: int) -> "nn.Module":
    """LR-ASPP: a light head that weights deep features by their mean and adds a classifier of shallow ones."""
    from stages.networks.lraspp import LRASPP

    own = settings.of_architecture
    assert isinstance(own, LRASPPSettings)
    return LRASPP(settings.backbone, outputs, own.output_stride, own.align_corners, own.shallow_tap)
