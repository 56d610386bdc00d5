"""The settings of `import-queries`."""

from typing import Literal

from pydantic import Field

from stages.settings.base import StageSettings

Answer = Literal["class", "dominant", "class-set", "precise", "mask", "image-class", "image-classes"]


class ImportQueriesSettings(StageSettings):
    """Settings of `import-queries`."""

    answer: Answer | None = Field(
        None,
        description="What to query; none: the class of pixels, the dominant class of regions, the mask of images.",
    )
    split: str = Field("train", description="Split that the selection was made from.")
    stride: int | None = Field(
        None,
        ge=1,
        description="Regions per image that the other program was run with, for files that number regions over all "
        "images.",
    )
