"""The settings of `annotate`. None of them changes what people answer, so none makes a ledger stale.

Which settings apply depends on the kind of answer queried, which only the queries file records: see `Settings.settled`.
"""

from typing import Self

from pydantic import Field, model_validator

from stages.settings.annotate_simulate import MaskCost
from stages.settings.base import EXECUTION, Not, Settings, StageSettings, group
from stages.settings.keys import command_faults


class SkipSettings(Settings):
    """What only applies to answers that people may not know."""

    skip_key: str = Field(
        "x",
        description='Key for "don\'t know". The query counts as answered but adds no label.',
        json_schema_extra=EXECUTION,
    )


class ToolSettings(Settings):
    """Keys of the tools that paint exact labels."""

    brush_key: str = Field("b", description="Key of the brush.", json_schema_extra=EXECUTION)
    polygon_key: str = Field("p", description="Key of the polygon tool.", json_schema_extra=EXECUTION)
    fill_key: str = Field("f", description="Key of the tool that fills an area.", json_schema_extra=EXECUTION)
    erase_key: str = Field("e", description="Key of the eraser.", json_schema_extra=EXECUTION)
    rest_key: str = Field("r", description="Key that fills everything not painted yet.", json_schema_extra=EXECUTION)


class PaintedCost(Settings):
    """Cost of a mask painted in another tool, where it is not measured as on the page."""

    clicks_per_mask: float = Field(
        MaskCost.model_fields["clicks_per_mask"].default,
        ge=0,
        description="Clicks recorded for a mask painted in another tool.",
        json_schema_extra=EXECUTION,
    )
    seconds_per_mask: float = Field(
        MaskCost.model_fields["seconds_per_mask"].default,
        ge=0,
        description="Seconds recorded for a mask painted in another tool.",
        json_schema_extra=EXECUTION,
    )


class PeopleSettings(StageSettings):
    """Settings of `annotate`."""

    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address to listen on. Any address other than 127.0.0.1 exposes the page, unencrypted, to the "
        "network.",
        json_schema_extra=EXECUTION,
    )
    port: int = Field(
        0, ge=0, le=65535, description="Port to listen on; 0: any free port.", json_schema_extra=EXECUTION
    )
    open: bool = Field(False, description="Open the page in the default browser.", json_schema_extra=EXECUTION)
    annotator: str | None = Field(
        None,
        min_length=1,
        description="Annotator of answers given on pages without another name; none: each browser gets a name of its "
        "own, such as person-3f2a.",
        json_schema_extra=EXECUTION,
    )
    journal: str | None = Field(
        None,
        min_length=1,
        description="Journal of answers to other queries, whose answers to open queries are used too.",
        json_schema_extra=EXECUTION,
    )
    edit: bool = Field(
        False,
        description="Change answers after the ledger was written, and write it again. Possible until a later ledger "
        "contains them.",
        json_schema_extra=EXECUTION,
    )
    guide: str | None = Field(
        None,
        min_length=1,
        description="Guidelines of the project to show on the page, a Markdown file.",
        json_schema_extra=EXECUTION,
    )
    originals: str | None = Field(
        None,
        min_length=1,
        description="Folder of the original images, to zoom into; none: the folder that the dataset was prepared from, "
        "if it is there.",
        json_schema_extra=EXECUTION,
    )
    suggest: str | None = Field(
        None,
        min_length=1,
        description="Model whose likeliest class is marked on the page. The journal and the ledger record what was "
        "suggested.",
        json_schema_extra=EXECUTION,
    )
    keys: tuple[str, ...] | None = Field(
        None,
        description="Key of each class, in the order of the classes, such as 1,2,3,q,w; none: 1 to 9, 0, then the "
        "letters in the order of a keyboard.",
        json_schema_extra=EXECUTION,
    )
    void_key: str = Field("v", description="Key for void.", json_schema_extra=EXECUTION)
    later_key: str = Field("l", description="Key that moves a query to the end.", json_schema_extra=EXECUTION)
    undo_key: str = Field(
        "Backspace", description="Key that returns to the previous answer.", json_schema_extra=EXECUTION
    )
    most_seconds: float = Field(
        120.0,
        gt=0,
        description="Cap on the time recorded per answer, in seconds; per stroke if exact labels are painted.",
        json_schema_extra=EXECUTION,
    )
    lease_minutes: float = Field(
        5.0,
        gt=0,
        description="Minutes before an unanswered query is offered to another annotator; for masks at least twice "
        "--seconds-per-mask.",
        json_schema_extra=EXECUTION,
    )
    grace: float = Field(
        5.0,
        ge=0,
        description="Seconds to undo the last answer before the ledger is written.",
        json_schema_extra=EXECUTION,
    )
    naming: SkipSettings | None = group(answer=Not("mask"))
    painting: ToolSettings | None = group(answer=("mask", "precise"))
    mask: PaintedCost | None = group(answer="mask")

    @model_validator(mode="after")
    def _no_conflicts(self) -> Self:
        faults = command_faults(self.keys or (), self.commands())
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def is_settled(self) -> bool:
        """Whether it is known what kind of answer is queried; before that all groups exist."""
        return self.naming is None or self.mask is None

    def commands(self) -> dict[str, str]:
        """The key of each configurable command."""
        commands = {"void": self.void_key, "later": self.later_key, "undo": self.undo_key}
        if self.naming is not None:
            commands["skip"] = self.naming.skip_key
        if self.painting is not None and self.is_settled:
            tools = self.painting
            commands |= {"brush": tools.brush_key, "polygon": tools.polygon_key, "fill": tools.fill_key}
            commands |= {"erase": tools.erase_key, "rest": tools.rest_key}
        return commands
