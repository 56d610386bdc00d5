"""The settings of `cluster-regions`."""

from typing import Literal

from pydantic import Field

from stages.settings.base import EXECUTION, StageSettings, group
from stages.settings.common import ComputeSettings


class KMeansSettings(ComputeSettings):
    """Settings of method kmeans (spec madbal.md 3)."""

    encoder: str = Field(
        "vgg16",
        min_length=1,
        description="timm model, with or without the tag of its weights (vgg16.tv_in1k), that describes a region's "
        "patch: the mean of its deepest feature map with a stride up to the side of the patch.",
    )
    weights: str = Field(
        "imagenet",
        min_length=1,
        description="Weights of the encoder: imagenet (downloaded), none (random), or a file.",
    )
    patch: int = Field(16, ge=2, le=512, description="Side of the patches in pixels.")
    bicubic: Literal["keys", "opencv"] = Field(
        "keys",
        description="Kernel that resizes patches: Keys' (a = -0.5), clipped to the range of colours, or OpenCV's "
        "(a = -0.75), not clipped, as in the public code.",
    )
    passes: int = Field(6, ge=1, description="Passes of the k-means over all regions.")
    batch: int = Field(1024, ge=1, description="Regions per step of the k-means (order shuffled).")
    order: Literal["shuffled", "reference"] = Field(
        "shuffled",
        description="Order of the regions: shuffled in each pass, or two images at a time from the last to the second, "
        "as in the public code.",
    )
    keep_features: bool = Field(True, description="Store the features for reuse in other clusters of the same regions.")
    workers: int = Field(
        0, ge=0, description="Processes that cut patches; 0: one per core.", json_schema_extra=EXECUTION
    )


class ClusterSettings(StageSettings):
    """Settings of `cluster-regions` (spec madbal.md 3)."""

    method: Literal["kmeans", "random"] = Field(
        "kmeans", description="Mini-batch k-means of the regions' features, or uniform random clusters as a control."
    )
    clusters: int = Field(9, ge=1, le=256, description="Number of clusters.")
    kmeans: KMeansSettings | None = group(method="kmeans")
