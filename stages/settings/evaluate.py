"""The settings of `evaluate`.

Some apply to masks only, not to answers; a ledger among the inputs tells which: see `Settings.settled`.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from stages.settings.base import Settings, StageSettings, group
from stages.settings.common import EvaluationSize, NetworkUse, Undefined, require_scales


class MaskSettings(Settings):
    """The masks to evaluate on."""

    split: str = Field("test", description="Split to evaluate on.")
    choose_on: str | None = Field(
        None, description="Choose among all weights on this split first, and evaluate only the chosen ones on --split."
    )
    at: EvaluationSize = Field(
        "dataset",
        description="Size of images and masks: as stored, or at the size that `prepare --evaluation-scale` kept.",
    )
    crop: int | None = Field(
        None,
        ge=8,
        description="Resize the shorter side to this (images bilinearly) and evaluate the square in the centre; none: "
        "whole images.",
    )

    @model_validator(mode="after")
    def _another_split(self) -> Self:
        if self.choose_on == self.split:
            raise ValueError("choose_on must differ from split, which is the split to report")
        return self


class EvaluateSettings(StageSettings):
    """Settings of `evaluate`."""

    checkpoint: Literal["last", "best", "both"] = Field("both", description="Model weights to evaluate.")
    undefined: Undefined = Field(
        "skip",
        description="Classes without a pixel in the masks: skip leaves out those that are not predicted either, zero "
        "counts these as IoU 0, one counts all of them as 1.",
    )
    flip: bool = Field(False, description="Average the probabilities with those of the mirrored image.")
    scales: tuple[float, ...] = Field((1.0,), min_length=1, description="Average over these input scales, e.g. 0.75,1.")
    masks: MaskSettings | None = group(truth="masks")
    use: NetworkUse = group()

    @property
    def divisible(self) -> bool:
        return self.masks is not None

    @model_validator(mode="after")
    def _positive_scales(self) -> Self:
        require_scales(self.scales)
        return self
