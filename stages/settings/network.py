"""The settings of a network; every field becomes an option of the command line."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Dropout = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[int, Field(ge=1)]


class NetworkSettings(BaseModel):
    """Which network to build and which weights its backbone starts from.

    The defaults are the DeepLabV3+ with MobileNetV2 of PixelPick (spec pixelpick.md 3.1). Names are checked when the
    network is built, by ``stages.networks.build.build_network``, so that reading settings needs no torch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str = Field(
        "deeplabv3plus",
        min_length=1,
        description="Network: deeplabv3plus, deeplabv3, deeplabv2, lraspp, fpn-dilated, or an architecture of "
        "segmentation-models-pytorch by name, such as unet, fpn or segformer; classifier: one class per image.",
    )
    backbone: str = Field(
        "mobilenetv2_100",
        min_length=1,
        description="Backbone: a timm name for deeplabv3plus and fpn-dilated, else an encoder name of "
        "segmentation-models-pytorch, such as resnet34 or tu-<timm name>.",
    )
    output_stride: Literal[8, 16, 32] = Field(
        16,
        description="Input size over size of the coarsest feature map of deeplabv3plus (16 or 8) and fpn-dilated (8).",
    )
    aspp_rates: tuple[Rate, ...] = Field(
        (6, 12, 18), min_length=1, description="Dilation of each 3x3 branch of the pyramid pooling of deeplabv3plus."
    )
    aspp_dropout: Dropout = Field(0.5, description="Dropout after the pyramid pooling of deeplabv3plus.")
    decoder_dropouts: tuple[Dropout, Dropout] = Field(
        (0.5, 0.2), description="Dropout after the first and the second 3x3 convolution of the deeplabv3plus decoder."
    )
    head_width: int = Field(
        256,
        ge=1,
        description="Channels of the head of deeplabv3plus and of the laterals of fpn-dilated (64, 128, ...).",
    )
    low_level_width: int = Field(
        48, ge=1, description="Channels of the stride-4 branch that joins the decoder of deeplabv3plus."
    )
    separable: bool = Field(
        False,
        description="Split each 3x3 convolution of the deeplabv3plus head into a depthwise and a pointwise one.",
    )
    classifier: Literal["linear", "cosine"] = Field(
        "linear",
        description="Last layer of deeplabv3plus: linear, or cosines of features and class vectors over temperature.",
    )
    temperature: float = Field(0.1, gt=0, description="What the cosines are divided by.")
    align_corners: bool = Field(
        True,
        description="Align the corner pixels when deeplabv3plus and fpn-dilated resize bilinearly; "
        "the published fpn-dilated does not.",
    )
    side_taps: tuple[str, ...] = Field(
        (),
        description="Support heads: the modules of the backbone whose outputs the three side classifiers see, such as "
        "blocks.1,blocks.3.0,blocks.4.0; none: its three last feature maps from stride 4 on but the deepest.",
    )
    lossiness_width: int = Field(
        512, ge=1, description="Support heads: channels of the first convolution of the head that predicts lossiness."
    )
    reference_head: bool = Field(
        False,
        description="classifier: keep the backbone's own pretrained head of 1000 classes, as published, and put the "
        "layer for the classes behind it.",
    )
    weights: str = Field(
        "imagenet",
        min_length=1,
        description="First weights of the backbone: imagenet (downloaded), none (random), or a .safetensors, .pth, "
        ".pt or .bin file.",
    )
