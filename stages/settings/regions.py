"""The settings of the stages that work on regions: `extract-superpixels` and `pseudo-label`."""

from typing import Literal

from pydantic import Field

from stages.settings.base import EXECUTION, StageSettings
from stages.settings.stages import Checkpoint, Device, NetworkUse, Precision


class ExtractSettings(NetworkUse):
    """Settings of `extract-superpixels` (defaults: spec adaptive_superpixel.md 2.1 and 2.5)."""

    method: Literal["seeds", "slic", "lsc", "grid", "oracle", "adaptive"] = Field(
        "seeds",
        description="seeds, slic, lsc: superpixels of the colours; grid: squares; oracle: connected parts of the "
        "ground truth (simulation only); adaptive: base superpixels merged where a model predicts alike.",
    )
    split: str = Field("train", description="The split whose images are cut into regions.")
    count: int = Field(2048, ge=1, description="Regions asked for per image (seeds, slic, lsc, grid).")
    region_pixels: int | None = Field(
        None, ge=1, description="Pixels per region; when given, each image's count follows from its size instead."
    )
    split_parts: bool = Field(False, description="Make every 4-connected part of a superpixel a region of its own.")

    grid_scale: float = Field(
        1.0, gt=0, le=1, description="Cut the images resized by this; queries then live on that coarser grid."
    )
    colour: Literal["lab", "hsv", "equalised-hsv", "equalised-unit-hsv"] = Field(
        "lab",
        description="seeds: colour space; equalised-hsv is the published chain, which in effect ignores the hue, "
        "equalised-unit-hsv the same with the hue in 0 to 1.",
    )
    levels: int | None = Field(
        None, ge=2, le=10, description="seeds: block levels (published: 5); none: those that come closest to the count."
    )
    # even numbers put a border at neutral colours, which Lab needs: 6 bins beat 5 and 7 (docs/results/superpixels.md)
    bins: int = Field(6, ge=2, le=32, description="seeds: histogram bins per channel (published: 10).")
    prior: int = Field(3, ge=0, le=5, description="seeds: smoothness of the borders.")
    double_step: bool = Field(True, description="seeds: run every block level twice.")
    iterations: int = Field(10, ge=1, description="seeds, slic, lsc: iterations.")
    ruler: float = Field(10.0, gt=0, description="slic: weight of compactness against colour.")
    ratio: float = Field(0.075, ge=0, le=1, description="lsc: weight of compactness against colour.")

    epsilon: float = Field(
        0.1, ge=0, description="adaptive: merge below this Jensen-Shannon distance (natural log, 0 to 0.8326)."
    )
    measure: str = Field("bvsb", description="adaptive: uncertainty by which the roots are visited.")
    order: Literal["uncertainty", "reverse", "random"] = Field(
        "uncertainty", description="adaptive: visit the most uncertain roots first, last, or in random order."
    )
    max_region_pixels: int | None = Field(None, ge=1, description="adaptive: largest region that merging may make.")
    max_fraction: float | None = Field(
        None, gt=0, le=1, description="adaptive: start no new root once this share of the base regions is settled."
    )
    checkpoint: Checkpoint = Field("last", description="adaptive: which weights of the model.")
    input_scale: float = Field(1.0, gt=0, le=4, description="adaptive: scale of the images that the network sees.")
    workers: int = Field(0, ge=0, description="Processes; 0 means one per core.", json_schema_extra=EXECUTION)


class ClusterSettings(StageSettings):
    """Settings of `cluster-regions` (spec madbal.md 3)."""

    method: Literal["kmeans", "random"] = Field(
        "kmeans", description="Mini-batch k-means of the regions' features, or uniform random clusters as a control."
    )
    clusters: int = Field(9, ge=1, le=256, description="Number of clusters.")
    encoder: str = Field(
        "vgg16",
        min_length=1,
        description="timm model that describes a region's patch: the mean of its deepest feature map whose stride is "
        "not above the patch's side.",
    )
    weights: str = Field(
        "imagenet",
        min_length=1,
        description="Weights of the encoder: imagenet (downloaded), none (random), or a file.",
    )
    patch: int = Field(16, ge=2, le=512, description="Side of the patches in pixels.")
    passes: int = Field(6, ge=1, description="Passes of the k-means over all regions.")
    batch: int = Field(1024, ge=1, description="Regions per step of the k-means (order shuffled).")
    order: Literal["shuffled", "reference"] = Field(
        "shuffled",
        description="How the regions are fed to the k-means: shuffled in every pass, or two images at a time from the "
        "last to the second, as the public code does.",
    )
    keep_features: bool = Field(
        True, description="Store the features, so that other clusters can be made of them (--features)."
    )
    device: Device = Field("auto", description="Where the encoder runs.", json_schema_extra=EXECUTION)
    precision: Precision = Field("auto", description="Forward pass; auto is bfloat16 on CUDA and float32 elsewhere.")
    workers: int = Field(
        0, ge=0, description="Processes that cut patches; 0: one per core.", json_schema_extra=EXECUTION
    )


class PseudoLabelSettings(NetworkUse):
    """Settings of `pseudo-label` (specs adaptive_superpixel.md 2.8 and 2.9, multi_class_query.md 7)."""

    method: Literal["sieve", "prototypes", "candidates", "argmax", "gated"] = Field(
        "sieve",
        description="sieve: drop pixels from regions with one class. Classes named together: prototypes of the region, "
        "the model's arg-max among them, or its arg-max among all. Full masks: gated gives the other images of the "
        "split what the model predicts, if its discriminator accepts it.",
    )
    gate: float = Field(0.6, ge=0, le=1, description="gated: accepted where the discriminator says more than this.")
    split: str = Field("train", description="gated: the split whose images get labels.")
    expansion: Literal["none", "reference", "largest"] = Field(
        "reference",
        description="prototypes: spread to neighbouring regions not at all, region by region as published, or by the "
        "largest similarity whatever the order.",
    )
    quantile: Literal["median", "minimum"] = Field(
        "median", description="prototypes: similarity in the own region that a neighbour must exceed."
    )
    prototype_temperature: float = Field(1.0, gt=0, description="prototypes: of the softmax that finds them.")
    renormalise: bool = Field(True, description="prototypes: bring features to unit length after resizing too.")
    flip: bool = Field(False, description="Average features and scores with those of the mirrored image (not sieve).")
    scales: tuple[float, ...] = Field((1.0,), min_length=1, description="Average over these input scales (not sieve).")
    sieve: Literal["max", "first", "none"] = Field(
        "max",
        description="Where the sorted confidences of a region are cut: at the largest knee, at the first one (as "
        "published, often no cut at all), or nowhere.",
    )
    samples: int = Field(20, ge=2, description="Points (at least) of the curve in which the knee is looked for.")
    min_pixels: int | None = Field(
        None, ge=0, description="Smaller regions are kept whole; none: twice the mean base region."
    )
    min_delta: float = Field(0.05, ge=0, le=1, description="max: a knee closer to the diagonal than this is none.")
    checkpoint: Checkpoint = Field("last", description="Which weights of the model are used.")
    input_scale: float = Field(1.0, gt=0, le=4, description="Scale of the images that the network sees.")
