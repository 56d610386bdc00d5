"""The settings of `annotate`: nothing here decides what people answer, so all of it is left out of the comparison."""

from typing import Self

from pydantic import Field, model_validator

from stages.settings.base import EXECUTION, StageSettings
from stages.settings.keys import command_faults
from stages.settings.stages import AnnotationCost


class PeopleSettings(StageSettings):
    """Settings of `annotate`."""

    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Where the page is served; any other host opens it, unencrypted, to those who can reach that host.",
        json_schema_extra=EXECUTION,
    )
    port: int = Field(
        0, ge=0, le=65535, description="Port of the page; 0: any that is free.", json_schema_extra=EXECUTION
    )
    annotator: str = Field(
        "person",
        min_length=1,
        description="Who answers, where the page is not told another name.",
        json_schema_extra=EXECUTION,
    )
    keys: tuple[str, ...] | None = Field(
        None,
        description="The key of every class, in the order of the classes, such as 1,2,3,q,w; none: 1 to 9, 0, then the "
        "letters as they lie on a keyboard.",
        json_schema_extra=EXECUTION,
    )
    void_key: str = Field("v", description="Key for void: it belongs to no class.", json_schema_extra=EXECUTION)
    skip_key: str = Field(
        "x", description="Key for: I don't know. The query is spent and labels nothing.", json_schema_extra=EXECUTION
    )
    later_key: str = Field("l", description="Key to put a query off to the end.", json_schema_extra=EXECUTION)
    undo_key: str = Field(
        "Backspace", description="Key to go back to the answer before and change it.", json_schema_extra=EXECUTION
    )
    most_seconds: float = Field(
        120.0,
        gt=0,
        description="The longest time recorded for one answer; who takes longer is not at work.",
        json_schema_extra=EXECUTION,
    )
    lease_minutes: float = Field(
        5.0,
        gt=0,
        description="A query shown to somebody is shown to nobody else until it was untouched for so long; for a mask "
        "that is at least twice --seconds-per-mask.",
        json_schema_extra=EXECUTION,
    )
    clicks_per_mask: float = Field(
        AnnotationCost.model_fields["clicks_per_mask"].default,
        ge=0,
        description="Clicks of a mask that was painted elsewhere, where nobody counts them.",
        json_schema_extra=EXECUTION,
    )
    seconds_per_mask: float = Field(
        AnnotationCost.model_fields["seconds_per_mask"].default,
        ge=0,
        description="Seconds of a mask that was painted elsewhere, where nobody measures them.",
        json_schema_extra=EXECUTION,
    )
    grace: float = Field(
        5.0,
        ge=0,
        description="Seconds in which the last answer can still be undone before the ledger is written.",
        json_schema_extra=EXECUTION,
    )

    @model_validator(mode="after")
    def _no_conflicts(self) -> Self:
        faults = command_faults(self.keys or (), self.commands())
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def commands(self) -> dict[str, str]:
        """Key of every command that has one to choose."""
        return {"void": self.void_key, "skip": self.skip_key, "later": self.later_key, "undo": self.undo_key}
