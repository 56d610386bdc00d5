"""The settings of `score`; those of one measure are in its file in stages/scoring/measures."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from stages.runtime.parts import MEASURES
from stages.settings.base import Not, PartSettings, Settings, StageSettings, chosen, group, part_group
from stages.settings.common import Checkpoint, NetworkUse, PredictionSettings

CONTRADICTION = "contradiction"
"""The measure of answers instead of predictions."""


class FeatureSize(Settings):
    """How large kept features are."""

    feature_size: int = Field(
        16, ge=1, le=1024, description="Length of a pixel's or region's kept features, a random projection."
    )


class NetworkFeatures(Settings):
    """What to store of a network's features besides its scores."""

    keep_features: bool = Field(
        False, description="Store the network's features, for rules that spread queries (diverse, k-centre, typical)."
    )
    size: FeatureSize | None = group(keep_features="True")


class PixelPredictions(NetworkFeatures):
    """What to store of a network's scores and predictions of pixels; of random scores a rule may read any."""

    keep_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Store this share of the scores of each image, the highest, for rules that read no others (pool, "
        "top, diverse).",
    )
    keep_classes: bool = Field(
        False, description="Store the predicted class of each pixel, for rules that stratify queries (stratified)."
    )


class PixelScores(Settings):
    """Scores of pixels."""

    grid_scale: float = Field(
        1.0, gt=0, le=1, description="Queries live on a grid of the image's sides times this factor, rounded down."
    )
    dtype: Literal["float32", "float16"] = Field("float32", description="Type of the stored score maps.")
    most_images: int | None = Field(
        None,
        ge=1,
        description="Score at most this many images, drawn at random for each model; only these can be queried.",
    )
    kept: PixelPredictions | None = group(measure=Not("random", CONTRADICTION))


class ShareSettings(Settings):
    """Balance by the share of the predicted class."""

    share_scale: float = Field(1.0, ge=0, description="Factor on the share; the public code of Kim et al. uses 0.25.")


class ProbabilitySettings(Settings):
    """Balance by the mean probability of a class."""

    balance_strength: float = Field(6.0, ge=0, description="Strength of the balance.")


class BalanceSettings(Settings):
    """Scores of regions by a network."""

    class_balance: Literal["none", "regions", "pixels", "cluster", "probability"] = Field(
        "none",
        description="Weigh scores by exp(-share) of the predicted class, its share counted in regions (ClassBal, Cai "
        "et al. 2021), in pixels (Kim et al. 2023) or in regions of the same cluster (Yazdani et al. 2023); or each "
        "pixel by 1 / (1 + strength x mean probability of its class)^2 (PixBal, Hwang et al. 2023).",
    )
    merged_by: Literal["model", "any"] = Field(
        "model", description="Accept merged regions of the scoring model only, or of any (merged once, scored later)."
    )
    rescale: bool = Field(
        False,
        description="Rescale the measure to 0 to 1 over all regions before it is weighed, as the baselines of Hwang et "
        "al. 2023 do.",
    )
    void_output: Literal["drop", "keep", "ban"] = Field(
        "drop",
        description="Models that learnt void: drop void from the prediction, keep it, or keep it and score regions "
        "predicted void 0.",
    )
    share: ShareSettings | None = group(class_balance=("regions", "pixels"))
    probability: ProbabilitySettings | None = group(class_balance="probability")


class RegionScores(Settings):
    """Scores of regions."""

    region_score: Literal["mean", "highest"] = Field(
        "mean",
        description="Score of a region: mean over its pixels or its highest pixel (random: the highest of one number "
        "per pixel, so that large regions tend to rank higher).",
    )
    best_pixel: bool = Field(
        False, description="Store the position of each region's highest pixel, for select --answer pixel."
    )
    balance: BalanceSettings | None = group(measure=Not("random", CONTRADICTION))
    kept: NetworkFeatures | None = group(measure=Not("random", CONTRADICTION))


class ImageFeatures(Settings):
    """What to store of an image classifier besides its scores."""

    keep_features: bool = Field(
        False,
        description="Store the network's features, for rules that spread queries (diverse, k-centre, typical).",
    )


class ImageScores(Settings):
    """Scores of images."""

    kept: ImageFeatures | None = group(measure=Not("random", CONTRADICTION))


class NetworkScores(PredictionSettings):
    """Scores by a network."""

    checkpoint: Checkpoint = Field("last", description="Model weights to use: best (on validation) or last epoch.")
    maturity: Literal["none", "pixel", "image"] = Field(
        "none",
        description="Add the divergence between the prediction and those of the side classifiers: per pixel "
        "(Jensen-Shannon), or one number per image and classifier as in the public code. Needs support heads.",
    )
    lossiness: bool = Field(False, description="Multiply by exp(predicted lossiness). Needs support heads.")
    discount_void: bool = Field(
        False,
        description="Multiply each pixel's score by 1 - its probability of void, whose answer labels nothing. Needs a "
        "model that learnt void.",
    )
    use: NetworkUse = group()

    @property
    def needs_support(self) -> bool:
        """Whether the settings require a network with support heads."""
        return self.lossiness or self.maturity != "none"


class ScoreSettings(StageSettings):
    """Settings of `score`."""

    unit: Literal["pixel", "region", "image"] = Field(
        "pixel", description="What to score. Region and image scores are the mean over their pixels."
    )
    measure: str = chosen(
        MEASURES,
        "margin",
        "Uncertainty of a pixel, or random, or of answers how far the model contradicts them. Higher scores are "
        "queried first.",
        also=("random", CONTRADICTION),
    )
    split: str = Field("train", description="Split whose images are scored.")
    pixel: PixelScores | None = group(unit="pixel")
    region: RegionScores | None = group(unit="region")
    image: ImageScores | None = group(unit="image")
    network: NetworkScores | None = group(measure=Not("random"))
    of_measure: PartSettings | None = part_group("measure")

    @property
    def passes(self) -> int:
        """Stochastic passes of the network; 0: one plain pass."""
        return int(getattr(self.of_measure, "committee", 0))

    @property
    def feature_size(self) -> int:
        """Length of the features of pixels or regions to keep; 0: none."""
        of_unit = self.pixel or self.region
        kept = None if of_unit is None else of_unit.kept
        return 0 if kept is None or kept.size is None else kept.size.feature_size

    @property
    def keeps_classes(self) -> bool:
        """Whether to store the predicted class of each pixel."""
        return self.pixel is not None and self.pixel.kept is not None and self.pixel.kept.keep_classes

    @property
    def shared_predictions(self) -> tuple[Any, ...] | None:
        alone = self.passes or self.unit == "image" or self.feature_size
        alone = alone or (self.network is not None and self.network.needs_support)
        return None if alone else super().shared_predictions

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if self.passes and self.network is not None and self.network.needs_support:
            raise ValueError("a committee does not read support heads; set maturity none and lossiness false")
        if self.measure == CONTRADICTION and self.network is not None and self.network.discount_void:
            raise ValueError("measure contradiction scores answers; set discount_void false")
        if self.measure == CONTRADICTION and self.unit == "image":
            raise ValueError("measure contradiction scores answers about pixels and regions; set unit pixel or region")
        if self.region is not None:
            if self.region.best_pixel and self.measure == CONTRADICTION:
                raise ValueError("measure contradiction has no best_pixel; set unit pixel for answers about pixels")
            chance = self.measure == "random"
            if self.region.best_pixel and chance and self.region.region_score == "mean":
                raise ValueError("best_pixel with measure random requires region_score highest")
            balance = self.region.balance
            if balance is not None and balance.probability is not None and self.region.region_score == "highest":
                raise ValueError("class_balance probability requires region_score mean")
        return self
