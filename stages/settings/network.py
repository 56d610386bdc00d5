"""The settings of a network; those of one architecture are in its file in stages/networks/architectures."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from stages.runtime.errors import BadInput
from stages.runtime.parts import ARCHITECTURES
from stages.settings.base import PartSettings, Settings, chosen, group, part_group

Dropout = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[int, Field(ge=1)]


class DilatedSettings(PartSettings):
    """Settings of all heads on dilated backbones."""

    output_stride: Literal[8, 16, 32] = Field(
        16, description="Input size divided by the size of the coarsest feature map."
    )
    align_corners: bool = Field(True, description="Align the corner pixels in bilinear resizing.")
    dilate_from: Literal["first-block", "second-block", "next-stage"] = Field(
        "second-block",
        description="Where dilation starts in a backbone stage that lost its stride: at its first or second block, or "
        "only in the next stage.",
    )
    stride_first: bool = Field(
        False, description="Reduce the size in the first 1x1 convolution of a bottleneck instead of in its 3x3."
    )
    pad_first: bool = Field(
        False,
        description="Pad inverted residual blocks before their expansion instead of before the depthwise convolution.",
    )


class CosineSettings(Settings):
    temperature: float = Field(0.1, gt=0, description="Divisor of the cosines.")


class ClassifierSettings(PartSettings):
    """Settings of heads whose last layer may compare directions."""

    classifier: Literal["linear", "cosine"] = Field(
        "linear", description="Last layer: linear, or cosines of features and class vectors over temperature."
    )
    cosine: CosineSettings | None = group(classifier="cosine")

    @property
    def divisor(self) -> float | None:
        """That of the cosines, None if the last layer is linear."""
        return None if self.cosine is None else self.cosine.temperature


class ShallowTapSettings(PartSettings):
    """Settings of heads that also read shallow features."""

    shallow_tap: str | None = Field(
        None,
        min_length=1,
        description="Backbone module whose output is the shallow features, such as blocks.2.0; none: the backbone's "
        "feature map of that stride.",
    )


class SupportHeadSettings(Settings):
    """Settings of the support heads of a network."""

    side_taps: tuple[str, ...] = Field(
        (),
        description="Three backbone modules, from fine to coarse, whose outputs the side classifiers read, such as "
        "blocks.1,blocks.3.0,blocks.4.0; none: the last three feature maps from stride 4 on, without the deepest, "
        "or the finest three that the head of light reads.",
    )
    lossiness_width: int = Field(
        512, ge=1, description="Channels of the first convolution of the head that predicts lossiness."
    )


class SupportableSettings(PartSettings):
    """Base of the settings of architectures that can have support heads."""

    support: SupportHeadSettings | None = group(objective="support")


class BuiltNetworkSettings(Settings):
    """Which network to build.

    The defaults are the DeepLabV3+ with MobileNetV2 of PixelPick (spec pixelpick.md 3.1). Backbones are checked when
    the network is built, by ``stages.networks.build.build_network``, so that reading settings does not import torch.
    """

    architecture: str = chosen(ARCHITECTURES, "deeplabv3plus", "Network.")
    backbone: str = Field(
        "mobilenetv2_100",
        min_length=1,
        description="Backbone: a timm name, with or without the tag of its weights (resnet50.tv_in1k; without: timm's "
        "default tag), or for architectures of segmentation-models-pytorch one of its encoders, such as resnet34 or "
        "tu-<timm name>.",
    )
    of_architecture: PartSettings | None = part_group("architecture")

    def recorded(self) -> dict[str, Any]:
        """What a model file records of the network: all settings by flat name, without the initial weights."""
        return {name: value for name, value in self.flat().items() if name != "weights"}


class NetworkSettings(BuiltNetworkSettings):
    """Which network to build and which weights its backbone starts from."""

    weights: str = Field(
        "imagenet",
        min_length=1,
        description="Initial weights of the backbone: imagenet (downloaded; those of the backbone's tag), none "
        "(random), or a .safetensors, .pth, .pt or .bin file.",
    )


def recorded_network(values: Mapping[str, Any], source: str = "") -> NetworkSettings:
    """The network that a model file records as flat ``values``.

    Settings that do not apply to its architecture, which older files record too, are ignored. Raises BadInput for an
    architecture that is not registered, such as one of a plug-in that is not loaded. ``source`` names the file.
    """
    name = str(values["architecture"])
    known = name if name in ARCHITECTURES else name.lower()  # older versions accepted names in any letter case
    if known not in ARCHITECTURES:
        raise BadInput(f"{source}: {ARCHITECTURES.unknown(name)}" if source else ARCHITECTURES.unknown(name))
    return NetworkSettings.load({}, source, offered={**values, "architecture": known})
