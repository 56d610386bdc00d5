"""The settings of `select`; those of one rule are in its file in stages/selecting/rules.

Which settings apply depends on the unit of the scores, which only their file records: see `Settings.settled`.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from stages.runtime.parts import RULES
from stages.settings.base import Not, PartSettings, Settings, StageSettings, chosen, group, part_group

LARGEST_LEGACY_SEED = 2**32 - 1  # of NumPy's legacy streams
Scope = Literal["image", "dataset"]
SCOPE = "Rank pixels within each image or over the whole dataset."


class ShareOfImages(Settings):
    """Settings of ranking within images."""

    image_share: float = Field(1.0, gt=0, le=1, description="Spend the whole budget on this share of the images.")


class PixelQueries(Settings):
    """Queries of pixels."""

    scope: Scope = Field("image", description=SCOPE)
    exclude_void: bool = Field(
        False, description="Never query void. Simulation only: reads the ground truth, which annotators do not have."
    )
    within: ShareOfImages | None = group(scope="image")


class WholeRegions(Settings):
    """Queries of regions as a whole."""

    exclude_queried: float = Field(
        0.5, ge=0, le=1, description="Skip regions of which more than this share was queried before; 1: skip none."
    )
    per_image: bool = Field(
        False, description="The budget is that of an image, on average, and not that of all images together."
    )


class BestPixels(Settings):
    """Queries of the best pixel of regions."""

    scope: Scope = Field("image", description=SCOPE)


class RegionQueries(Settings):
    """Queries of regions, or of their best pixels."""

    answer: Literal["dominant", "class-set", "precise", "pixel"] = Field(
        "dominant",
        description="What to query: the dominant class, all classes, exact labels of all pixels, or the class of the "
        "region's best pixel (at most one per region; the budget is that of pixels).",
    )
    whole: WholeRegions | None = group(answer=Not("pixel"))
    pixels: BestPixels | None = group(answer="pixel")


class SeedSettings(Settings):
    """A budget of images that is spread over rounds."""

    query_share: float = Field(0.5, gt=0, le=1, description="Images per round, as a share of the seed set.")
    seed_in_selection: bool = Field(False, description="Count the seed set towards the budget.")


class RatioSettings(Settings):
    """A budget of images as a share of all."""

    seed_share: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Query this share of the budget in round 0 and query_share of that in each later round, until the "
        "budget is spent beside the seed set; none: all at once.",
    )
    ratio_splits: tuple[str, ...] | None = Field(
        None, description="Splits whose images the ratio counts, such as train,val; none: the images with scores."
    )
    spent: SeedSettings | None = group(seed_share=Not("None"))


class ImageQueries(Settings):
    """Queries of images."""

    image_answer: Literal["mask", "class", "classes"] = Field(
        "mask", description="What to query: the full mask, the class of the image, or all classes in it."
    )
    ratio: float | None = Field(
        None, gt=0, le=1, description="Budget as a share of all images, rounded up; replaces --budget."
    )
    share: RatioSettings | None = group(ratio=Not("None"))


class MixedQueries(Settings):
    """Queries that the rule does not choose, as shares of the budget."""

    control: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the queries that is drawn at random from the whole pool, to measure without masks how "
        "good a model is (evaluate --annotations).",
    )
    repeat: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the queries that repeats earlier ones at random, to measure how far people agree.",
    )
    gold_share: float = Field(
        0.05, ge=0, le=1, description="Share of the queries with known answers, taken from --gold if that is passed."
    )

    @model_validator(mode="after")
    def _at_most_all(self) -> Self:
        if self.control + self.repeat + self.gold_share > 1:
            raise ValueError("control, repeat and gold_share must sum to at most 1")
        return self


class AssumedSeconds(Settings):
    """What queries take as long as the ledger has no answers of their kind."""

    seconds_per_click: float = Field(
        1.0, gt=0, le=1e9, description="Annotation seconds of a click, unless the ledger has answers of the same kind."
    )
    seconds_per_mask: float = Field(
        5400.0, gt=0, le=1e9, description="Annotation seconds of a full mask, unless the ledger has masks."
    )


class SelectSettings(StageSettings):
    """Settings of `select`."""

    rule: str = chosen(RULES, "pool", "How scores become queries.")
    budget: int = Field(
        10,
        ge=0,
        description="Pixels: queries per image (scope dataset: on average). Regions (without --per-image) and images: "
        "in all; 0: all.",
    )
    first_budget: int | None = Field(None, ge=0, description="Budget of round 0; none: the same as in later rounds.")
    budget_seconds: float | None = Field(
        None,
        gt=0,
        le=1e12,
        description="Annotation seconds to spend per round, in all images together; replaces both budgets above. If "
        "queries differ in seconds, those with the most score per second are chosen.",
    )
    stream: Literal["named", "legacy"] = Field(
        "named",
        description="Random draws: one stream per image, or one legacy NumPy stream over all images in order.",
    )
    again: bool = Field(
        False,
        description="Query what was answered once more, highest scores first whatever the rule; the budget is that of "
        "all images. For scores by measure contradiction.",
    )
    assumed: AssumedSeconds | None = group(budget_seconds=Not("None"))
    mixed: MixedQueries | None = group(again="False")
    of_rule: PartSettings | None = part_group("rule")
    pixel: PixelQueries | None = group(unit="pixel")
    region: RegionQueries | None = group(unit="region")
    image: ImageQueries | None = group(unit="image")

    def budget_of(self, round_number: int) -> int:
        """The budget of a round."""
        return self.budget if round_number or self.first_budget is None else self.first_budget

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if self.budget_seconds is not None and self.image is not None and self.image.ratio is not None:
            raise ValueError("budget_seconds replaces ratio; set ratio none")
        return self

    @model_validator(mode="after")
    def _legacy_seed(self) -> Self:
        if self.stream == "legacy" and self.seed > LARGEST_LEGACY_SEED:
            raise ValueError(f"stream legacy requires a seed of at most {LARGEST_LEGACY_SEED}")
        return self
