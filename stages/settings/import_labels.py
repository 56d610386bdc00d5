"""The settings of `import-labels`."""

from typing import Literal

from pydantic import Field

from stages.settings.annotate_simulate import MOST_SECONDS
from stages.settings.base import StageSettings
from stages.settings.common import OVERLAP, Overlap


class ImportLabelsSettings(StageSettings):
    """Settings of `import-labels`."""

    map: str | None = Field(
        None,
        description="Classes of labels with other names, as LABEL=CLASS,...; CLASS may also be void (labelled as no "
        "class) or omit (not taken). Labels of masks are values (7) or colours (#ff0000).",
    )
    others: Literal["refuse", "void", "omit"] = Field(
        "refuse",
        description="Labels that are neither a class nor in --map: refuse them, or take them as void, or omit them.",
    )
    unlabelled: str | None = Field(
        None, description="Value (0) or colour (#000000) of mask pixels that nobody labelled; none: masks are whole."
    )
    overlap: Overlap = Field("later", description=OVERLAP)
    grid_scale: float = Field(
        1.0, gt=0, le=1, description="Grid of the queries that follow: that of their scores or regions."
    )
    seconds_per_label: float = Field(
        0.0,
        ge=0,
        le=MOST_SECONDS,
        description="Annotation seconds of each point, shape or mask; above 0, each is also a click. 0: no cost.",
    )
    annotator: str = Field("person", min_length=1, description="Annotator of labels that name none.")
    split: str = Field("train", description="Split whose images are labelled; labels of other splits are left out.")
