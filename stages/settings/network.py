"""The settings of a network; those of one architecture stand in its file in stages/networks/architectures."""

from pydantic import Field

from stages.runtime.parts import ARCHITECTURES
from stages.settings.base import PartSettings, Settings, chosen, part_group


class NetworkSettings(Settings):
    """Which network to build and which weights its backbone starts from.

    The defaults are the DeepLabV3+ with MobileNetV2 of PixelPick (spec pixelpick.md 3.1). Backbones are checked when
    the network is built, by ``stages.networks.build.build_network``, so that reading settings needs no torch.
    """

    architecture: str = chosen(ARCHITECTURES, "deeplabv3plus", "Network.")
    backbone: str = Field(
        "mobilenetv2_100",
        min_length=1,
        description="Backbone: a timm name, or for architectures of segmentation-models-pytorch one of its encoders, "
        "such as resnet34 or tu-<timm name>.",
    )
    weights: str = Field(
        "imagenet",
        min_length=1,
        description="First weights of the backbone: imagenet (downloaded), none (random), or a .safetensors, .pth, "
        ".pt or .bin file.",
    )
    of_architecture: PartSettings | None = part_group("architecture")
