"""The settings of `extract-superpixels`; those of one cutter are in its file in stages/regions/cutters."""

from typing import Literal

from pydantic import Field

from stages.runtime.parts import CUTTERS, MEASURES
from stages.settings.base import EXECUTION, Not, PartSettings, Settings, StageSettings, chosen, group, part_group
from stages.settings.common import Checkpoint, NetworkUse, PredictionSettings


class CutSettings(Settings):
    """Settings of all cutters."""

    grid_scale: float = Field(
        1.0, gt=0, le=1, description="Cut the images resized by this factor; queries then live on that coarser grid."
    )
    split_parts: bool = Field(False, description="Split superpixels into 4-connected regions.")


class MergeSettings(PredictionSettings):
    """Settings of method adaptive (spec adaptive_superpixel.md 2.5)."""

    epsilon: float = Field(
        0.1, ge=0, description="Merge below this Jensen-Shannon distance (natural logarithm, 0 to 0.8326)."
    )
    measure: str = chosen(MEASURES, "bvsb", "Uncertainty that orders the roots.")
    order: Literal["uncertainty", "reverse", "random"] = Field(
        "uncertainty", description="Visit the most uncertain roots first, last, or in random order."
    )
    max_region_pixels: int | None = Field(None, ge=1, description="Largest region that merging may create, in pixels.")
    max_fraction: float | None = Field(
        None, gt=0, le=1, description="Start no new root once this share of the base regions is settled."
    )
    checkpoint: Checkpoint = Field("last", description="Model weights to use: best (on validation) or last epoch.")
    use: NetworkUse = group()


class ExtractSettings(StageSettings):
    """Settings of `extract-superpixels` (defaults: spec adaptive_superpixel.md 2.1 and 2.5)."""

    method: str = chosen(
        CUTTERS,
        "seeds",
        "How to cut: seeds, slic or lsc superpixels of the colours, grid squares, oracle parts of the ground truth "
        "(simulation only), or adaptive: base regions merged by the predictions of a model.",
        also=("adaptive",),
    )
    split: str = Field("train", description="Split whose images are cut.")
    workers: int = Field(0, ge=0, description="Processes; 0: one per core.", json_schema_extra=EXECUTION)
    cut: CutSettings | None = group(method=Not("adaptive"))
    of_method: PartSettings | None = part_group("method")
    merge: MergeSettings | None = group(method="adaptive")
