"""The settings of `annotate`. None of them changes what people answer, so none makes a ledger stale.

Which settings apply depends on the kind of answer queried, which only the queries file records: see `Settings.settled`.
"""

from typing import Self

from pydantic import Field, model_validator

from stages.settings.annotate_simulate import MaskCost
from stages.settings.base import EXECUTION, Not, Settings, StageSettings, group
from stages.settings.keys import command_faults


class KeySettings(Settings):
    """Keys for answers that name classes."""

    keys: tuple[str, ...] | None = Field(
        None,
        description="Key of each class, in the order of the classes, such as 1,2,3,q,w; none: 1 to 9, 0, then the "
        "letters in the order of a keyboard.",
        json_schema_extra=EXECUTION,
    )
    void_key: str = Field("v", description="Key for void.", json_schema_extra=EXECUTION)
    skip_key: str = Field(
        "x",
        description='Key for "don\'t know". The query counts as answered but adds no label.',
        json_schema_extra=EXECUTION,
    )


class PaintedCost(Settings):
    """Cost of a mask painted in another tool, where it is not measured."""

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
    later_key: str = Field("l", description="Key that moves a query to the end.", json_schema_extra=EXECUTION)
    undo_key: str = Field(
        "Backspace", description="Key that returns to the previous answer.", json_schema_extra=EXECUTION
    )
    most_seconds: float = Field(
        120.0,
        gt=0,
        description="Cap on the time recorded per answer, in seconds.",
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
    naming: KeySettings | None = group(answer=Not("mask"))
    mask: PaintedCost | None = group(answer="mask")

    @model_validator(mode="after")
    def _no_conflicts(self) -> Self:
        keys = None if self.naming is None else self.naming.keys
        faults = command_faults(keys or (), self.commands())
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def commands(self) -> dict[str, str]:
        """The key of each configurable command."""
        commands = {"later": self.later_key, "undo": self.undo_key}
        if self.naming is not None:
            commands = {"void": self.naming.void_key, "skip": self.naming.skip_key} | commands
        return commands
