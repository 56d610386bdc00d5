"""The settings of `import-answers`.

What applies depends on the answer that is queried, which only the file of queries tells: see `Settings.settled`.
"""

from pydantic import Field

from stages.settings.annotate_simulate import ClickCost, MaskCost
from stages.settings.base import Not, StageSettings, group


class ImportSettings(StageSettings):
    """Settings of `import-answers`."""

    annotator: str = Field("person", min_length=1, description="Annotator of answers that name none.")
    resize: bool = Field(
        False, description="Resize masks of another size to that of the dataset's images, as prepare resizes masks."
    )
    click: ClickCost | None = group(answer=Not("mask"))
    mask: MaskCost | None = group(answer="mask")
