"""The settings of `annotate-simulate`.

What applies depends on the answer that is queried, which only the file of queries tells: see `Settings.settled`.
"""

from typing import Literal

from pydantic import Field, model_validator

from stages.settings.base import Settings, StageSettings, group

MOST_SECONDS = 1e9


class ClickCost(Settings):
    """Assumed cost of a click."""

    seconds_per_click: float = Field(
        1.0,
        ge=0,
        le=MOST_SECONDS,
        description="Annotation seconds of one click (one pixel, one dominant class, one polygon vertex).",
    )


class MaskCost(Settings):
    """Assumed cost of a full mask."""

    clicks_per_mask: float = Field(
        1713.0,
        ge=0,
        le=1e9,
        description="Polygon clicks of one full mask; 1713 is the Cityscapes mean (Cai et al. 2021, 5 095 159 / 2975).",
    )
    seconds_per_mask: float = Field(
        5400.0,
        ge=0,
        le=MOST_SECONDS,
        description="Annotation seconds of one full mask; 1.5 h on Cityscapes (Cordts et al. 2016).",
    )


class ErrorSettings(Settings):
    """Errors of an annotator who names one class."""

    error_rate: float = Field(
        0.0, ge=0, le=1, description="Share of wrong classes among those named per image and round."
    )
    error_from_round: int = Field(1, ge=0, description="First round with annotator errors.")


class StopSettings(Settings):
    """When to stop if an answer costs several clicks."""

    click_stop: Literal["reached", "exceeded"] = Field(
        "reached", description="Stop once the click budget is reached, or exceeded (as published for class sets)."
    )


class VoidSettings(Settings):
    """How void in regions is answered."""

    void_policy: Literal["count", "exclude"] = Field(
        "count",
        description="Dominant class: void votes like a class, or only in regions with nothing else. Class sets: "
        "void is named like a class, or never.",
    )


class TrimSettings(Settings):
    """What an annotator sees of a region."""

    trim: int = Field(5, ge=0, description="Side of the square around region borders to ignore, odd; 0: none.")

    @model_validator(mode="after")
    def _odd_trim(self) -> "TrimSettings":
        if self.trim and self.trim % 2 == 0:
            raise ValueError("trim must be odd (its square is centred on the border), or 0 for none")
        return self


class PresenceSettings(Settings):
    """Which classes count as present in an image."""

    presence_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Smallest share of an image's pixels with which a class counts as present, here and when a "
        "classifier trained on these answers is validated.",
    )


class AnnotateSettings(StageSettings):
    """Settings of `annotate-simulate`."""

    click_budget: int | None = Field(
        None, ge=1, description="Answer in rank order until this many clicks are spent; none: answer all queries."
    )
    stop: StopSettings | None = group(answer=("dominant", "class-set", "precise", "image-classes"))
    click: ClickCost | None = group(
        answer=("class", "dominant", "class-set", "precise", "image-class", "image-classes")
    )
    mask: MaskCost | None = group(answer="mask")
    errors: ErrorSettings | None = group(answer=("class", "dominant", "image-class"))
    void: VoidSettings | None = group(answer=("dominant", "class-set"))
    sight: TrimSettings | None = group(answer="class-set")
    presence: PresenceSettings | None = group(answer="image-classes")
