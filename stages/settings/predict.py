"""The settings of `predict`."""

from typing import Literal, Self

from pydantic import Field, model_validator

from stages.settings.base import Not, Settings, StageSettings, group
from stages.settings.common import Checkpoint, NetworkUse, require_scales
from stages.settings.prepare import Side, require_one_size


class TableSettings(Settings):
    """Settings of the table of classes."""

    pixel_size: float | None = Field(
        None, gt=0, description="Side of a pixel in metres, to add areas; default: that of a GeoTIFF in metres."
    )


class ConfidenceSettings(Settings):
    """Settings of masks with unsure pixels."""

    unsure: int = Field(255, ge=0, le=255, description="Value of pixels below --min-confidence.")


class PredictSettings(StageSettings):
    """Settings of `predict`."""

    checkpoint: Checkpoint = Field("last", description="Model weights to use.")
    scale: float | None = Field(
        None, gt=0, le=4, description="Resize factor before the network; default: as the model's dataset was prepared."
    )
    long_side: int | None = Field(None, ge=8, description="Longer side before the network, in pixels; see --scale.")
    size: tuple[Side, Side] | None = Field(None, description="Exact height,width before the network; see --scale.")
    flip: bool = Field(False, description="Average the probabilities with those of the mirrored image.")
    scales: tuple[float, ...] = Field((1.0,), min_length=1, description="Average over these input scales, e.g. 0.75,1.")
    window: int = Field(
        2048, ge=64, description="Longest side that the network sees at once; larger images are cut into windows of it."
    )
    overlap: float = Field(0.25, ge=0, le=0.75, description="Share of a window that it has in common with the next.")
    encoding: Literal["index", "color"] = Field(
        "index", description="Masks of class numbers with the colours as a palette, or of colours."
    )
    min_confidence: float = Field(
        0.0, ge=0, lt=1, description="Probability of the predicted class below which a pixel is unsure."
    )
    of_confidence: ConfidenceSettings | None = group(min_confidence=Not("0"))
    probabilities: Literal["none", "u8", "f16"] = Field(
        "none", description="Also write the probabilities of all classes, as NumPy arrays: u8 (times 255), or f16."
    )
    overlay: bool = Field(False, description="Also write the mask over the image, as JPEG.")
    coco: bool = Field(False, description="Also write all masks as one COCO document.")
    table: bool = Field(False, description="Also write the share of each class in each image as CSV.")
    of_table: TableSettings | None = group(table="True")
    split: str | None = Field(None, description="Split of a dataset to predict; default: all.")
    pool: bool = Field(
        False,
        description="Of a dataset, predict the images of split train without a mask in --annotations, in the folders "
        "that annotation tools and `import-answers` read.",
    )
    use: NetworkUse = group()

    @model_validator(mode="after")
    def _checks(self) -> Self:
        require_one_size(self)
        require_scales(self.scales)
        if self.pool and self.split not in (None, "train"):
            raise ValueError("pool is split train; leave out split")
        if self.pool and self.encoding != "index":
            raise ValueError("pool writes class numbers; set encoding to index")
        return self
