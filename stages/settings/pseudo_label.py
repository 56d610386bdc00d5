"""The settings of `pseudo-label`."""

from typing import Literal

from pydantic import Field

from stages.settings.base import Not, Settings, StageSettings, group
from stages.settings.common import Checkpoint, NetworkUse, PredictionSettings


class KneeSettings(Settings):
    """How the knee of a region's sorted confidences is found."""

    samples: int = Field(20, ge=2, description="Smallest number of points of the curve.")


class LargestKneeSettings(Settings):
    """Settings of the largest knee."""

    min_delta: float = Field(0.05, ge=0, le=1, description="Minimum distance of a knee from the diagonal.")


class SieveSettings(PredictionSettings):
    """Settings of method sieve (spec adaptive_superpixel.md 2.8)."""

    sieve: Literal["max", "first", "none"] = Field(
        "max",
        description="Where to cut the sorted confidences of a region: at the largest knee, at the first one (as "
        "published, often no cut at all), or nowhere.",
    )
    min_pixels: int | None = Field(
        None, ge=0, description="Keep smaller regions whole; none: twice the mean base region."
    )
    knee: KneeSettings | None = group(sieve=Not("none"))
    largest: LargestKneeSettings | None = group(sieve="max")


class SpreadSettings(Settings):
    """How prototypes spread to neighbouring regions."""

    quantile: Literal["median", "minimum"] = Field(
        "median", description="Similarity within the prototype's region that a neighbour must exceed."
    )


class PrototypeSettings(Settings):
    """Settings of method prototypes (spec multi_class_query.md 7)."""

    expansion: Literal["none", "reference", "largest"] = Field(
        "reference",
        description="Spread to neighbouring regions: not at all, region by region as published, or by the largest "
        "similarity, independent of the order.",
    )
    prototype_temperature: float = Field(1.0, gt=0, description="Temperature of the softmax that selects prototypes.")
    renormalise: bool = Field(True, description="Scale features to unit length again after resizing.")
    spread: SpreadSettings | None = group(expansion=Not("none"))


class ViewSettings(Settings):
    """Views of an image whose features and scores are averaged."""

    flip: bool = Field(False, description="Average with the mirrored image.")
    scales: tuple[float, ...] = Field((1.0,), min_length=1, description="Average over these input scales.")


class ArgmaxSettings(Settings):
    """Settings of method argmax (spec multi_class_query.md 7.4)."""

    extent: Literal["regions", "image"] = Field(
        "regions", description="Label the queried regions only, or the whole image, as published."
    )


class GateSettings(Settings):
    """Settings of method gated (spec als4gan.md 4.4)."""

    gate: float = Field(0.6, ge=0, le=1, description="Accept predictions that the discriminator scores above this.")
    split: str = Field("train", description="Split whose images get labels.")
    input_scale: float = Field(1.0, gt=0, le=4, description="Scale of the images that the network sees.")


class EncoderSettings(Settings):
    """A pretrained network whose features are compared without training it."""

    encoder: str = Field(
        "mobilenetv2_100",
        min_length=1,
        description="timm model, with or without the tag of its weights (vit_small_patch14_dinov2.lvd142m), whose "
        "feature maps are compared.",
    )
    weights: str = Field(
        "imagenet",
        min_length=1,
        description="Weights of the encoder: imagenet (downloaded; those of its tag), none (random), or a file.",
    )


class PoolSettings(Settings):
    """Settings of neighbours in the whole pool."""

    unlabelled_split: str | None = Field(
        None, min_length=1, description="Split whose images without an answer get labels too; none: no others."
    )


class NeighbourSettings(Settings):
    """Settings of method neighbours."""

    features: Literal["encoder", "model"] = Field(
        "encoder",
        description="Features that are compared: those of a pretrained encoder, or of the backbone of --model.",
    )
    among: Literal["pool", "image"] = Field(
        "pool", description="Where the nearest labelled pixels are searched: in all images, or in the same image."
    )
    neighbours: int = Field(20, ge=1, description="Labelled pixels that vote.")
    vote_temperature: float = Field(
        0.07, gt=0, description="A neighbour with the cosine c votes with the weight exp(c / temperature)."
    )
    margin: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Leave pixels unlabelled whose first two classes differ by less than this share of the votes.",
    )
    cap: int = Field(
        1000,
        ge=1,
        description="Largest number of labelled pixels of a class that are compared, drawn at random from the pool or "
        "the image. It bounds memory and time.",
    )
    cell: int = Field(
        4,
        ge=1,
        description="Side in pixels of the cells that are compared; the votes are interpolated between their centres.",
    )
    input_scale: float = Field(1.0, gt=0, le=4, description="Scale of the images that the network sees.")
    encoding: EncoderSettings | None = group(features="encoder")
    pool: PoolSettings | None = group(among="pool")


class PseudoLabelSettings(StageSettings):
    """Settings of `pseudo-label`."""

    method: Literal["sieve", "prototypes", "candidates", "argmax", "gated", "neighbours"] = Field(
        "sieve",
        description="sieve: drop pixels from regions with one class. For class sets: prototypes of the region, the "
        "arg-max within the set (candidates), or the arg-max over all classes. gated: predictions that the model's "
        "discriminator accepts, for images without a mask. neighbours: each pixel takes the class of the most similar "
        "labelled pixels in the features of a frozen network.",
    )
    checkpoint: Checkpoint = Field("last", description="Model weights to use: best (on validation) or last epoch.")
    use: NetworkUse = group()
    sieving: SieveSettings | None = group(method="sieve")
    prototypes: PrototypeSettings | None = group(method="prototypes")
    predicted: ArgmaxSettings | None = group(method="argmax")
    views: ViewSettings | None = group(method=("prototypes", "candidates", "argmax"))
    gated: GateSettings | None = group(method="gated")
    spread: NeighbourSettings | None = group(method="neighbours")

    @property
    def divisible(self) -> bool:
        return self.spread is None or self.spread.among != "pool"
