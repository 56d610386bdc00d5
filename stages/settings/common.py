"""Settings that several stages share."""

from typing import Literal

from pydantic import Field

from stages.settings.base import EXECUTION, Settings

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "bfloat16"]
Checkpoint = Literal["last", "best"]
Filter = Literal["bilinear", "bicubic", "bicubic-aliased"]
EvaluationSize = Literal["dataset", "original"]
Undefined = Literal["skip", "zero", "one"]
Overlap = Literal["later", "smaller"]
OVERLAP = "Which of two overlapping shapes is on top: the later one in the file, or the smaller one."


class ComputeSettings(Settings):
    """Settings of stages that run a network; recorded in the output, and compared only on request."""

    device: Device = Field("auto", description="Device to run the network on.", json_schema_extra=EXECUTION)
    precision: Precision = Field(
        "auto",
        description="Precision of the forward pass; auto: bfloat16 on CUDA, float32 elsewhere. The last layer and what "
        "follows it always run in float32.",
        json_schema_extra=EXECUTION,
    )
    same_device: bool = Field(
        False,
        description="Rebuild an output that was computed on another device or in another precision than asked for; "
        "otherwise that is only reported. auto asks for nothing.",
        json_schema_extra=EXECUTION,
    )


class NetworkUse(ComputeSettings):
    """Settings of stages that run a trained network over images."""

    batch: int = Field(4, ge=1, description="Images per forward pass.", json_schema_extra=EXECUTION)
    precision: Precision = Field(
        "float32",
        description="Precision of the forward pass: bfloat16 is faster on CUDA and changes which pixels score highest. "
        "auto: bfloat16 on CUDA, float32 elsewhere. The last layer and what follows it always run in float32.",
        json_schema_extra=EXECUTION,
    )


def require_scales(scales: tuple[float, ...]) -> None:
    """ValueError for input scales that no network is run at."""
    if any(not 0.1 <= scale <= 8 for scale in scales):
        raise ValueError("scales must lie between 0.1 and 8")


class PredictionSettings(Settings):
    """What each stage reads that takes a network's predictions of whole images."""

    input_scale: float = Field(1.0, gt=0, le=4, description="Scale of the images that the network sees.")
    input_filter: Literal["bilinear", "bicubic"] = Field(
        "bilinear", description="Filter that resizes the images to that scale, averaging if they shrink."
    )
    predictions: str | None = Field(
        None,
        min_length=1,
        description="Folder that keeps the predictions for other stages with the same model, images, input scale "
        "and filter, device and precision; not those of a committee or of support heads. Remove it when they are done.",
        json_schema_extra=EXECUTION,
    )
