"""The settings of `import-regions`; those of the cutter that fills the rest are in stages/regions/cutters."""

from pydantic import Field

from stages.runtime.parts import CUTTERS
from stages.settings.base import EXECUTION, PartSettings, StageSettings, chosen, part_group


class ImportRegionsSettings(StageSettings):
    """Settings of `import-regions`."""

    rest: str = chosen(
        CUTTERS,
        "slic",
        "How to cut what no region covers: by a cutter of the colours, or none: it is no region and never queried.",
        also=("none",),
    )
    of_rest: PartSettings | None = part_group("rest")
    background: int | None = Field(None, ge=0, description="Number in region maps that means no region.")
    min_pixels: int = Field(
        1, ge=1, description="Regions of fewer pixels join the neighbour with which they share the longest border."
    )
    grid_scale: float = Field(
        1.0, gt=0, le=1, description="Grid of the regions, as a factor on the images; queries then live on it."
    )
    split: str = Field("train", description="Split whose regions are imported.")
    workers: int = Field(0, ge=0, description="Processes; 0: one per core.", json_schema_extra=EXECUTION)
