"""The settings of `prepare`."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from stages.settings.base import EXECUTION, StageSettings
from stages.settings.common import Filter

Side = Annotated[int, Field(ge=8)]
RESIZING = ("scale", "long_side", "size")
"""The settings that say how images are resized; a model records those of its dataset."""


def require_one_size(settings: StageSettings) -> None:
    """ValueError if more than one of ``RESIZING`` is set."""
    if sum(getattr(settings, name) is not None for name in RESIZING) > 1:
        raise ValueError("scale, long_side and size are mutually exclusive; set one of them")


class PrepareSettings(StageSettings):
    """Settings of `prepare`."""

    scale: float | None = Field(None, gt=0, le=4, description="Resize factor for both sides of each image and mask.")
    long_side: int | None = Field(
        None, ge=8, description="Length of the longer side in pixels; the shorter one keeps the aspect, rounded down."
    )
    size: tuple[Side, Side] | None = Field(
        None, description="Exact height,width of each image and mask; the aspect is not kept."
    )
    filter: Filter = Field(
        "bilinear",
        description="Filter that resizes images: bilinear or bicubic, averaging if they shrink; bicubic-aliased does "
        "not (OpenCV's). Masks take the nearest pixel.",
    )
    evaluation_scale: float | None = Field(
        None,
        gt=0,
        le=4,
        description="Keep images and masks of all splits but the pool a second time, resized by this factor (1: as "
        "they are), for `evaluate --at original`.",
    )
    every: int = Field(
        1, ge=1, description="Keep only each n-th image of the pool, by name; frames of a video are alike."
    )
    in_place: bool = Field(
        False,
        description="Leave images in their files, which are decoded and resized whenever one is used; masks and an "
        "index are written. For pools that should not be on disk twice.",
    )
    file_gb: float = Field(
        20,
        gt=0,
        description="Largest size of a file with images in GB. Images that take more are written to several such files "
        "in the folder OUTPUT.images, and the output names them.",
    )
    verify_files: bool = Field(
        False,
        description="Detect changed files by reading all of them, instead of by size, times and inode.",
    )
    download: bool = Field(
        False,
        description="Download the archives that the description lists, and unpack them into --root, if they are not "
        "there yet.",
        json_schema_extra=EXECUTION,
    )
    workers: int = Field(0, ge=0, description="Decoding threads; 0: one per core.", json_schema_extra=EXECUTION)

    @property
    def divisible(self) -> bool:
        return not self.download

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        require_one_size(self)
        return self
