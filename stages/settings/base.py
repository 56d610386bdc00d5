"""What all settings models share: frozen, no unknown keys, every fault reported at once.

One model per stage is at once the defaults, the TOML schema, the command-line options and the help text.
"""

from collections.abc import Mapping
from typing import Any, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stages.runtime.errors import BadInput

# Marks fields that decide where and how fast a stage runs but not what it computes: they are left out of the
# comparison that decides whether an output is up to date.
EXECUTION: dict[str, Any] = {"execution": True}


class StageSettings(BaseModel):
    """Base of every stage's settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seed: int = Field(0, ge=0, lt=2**63, description="Root seed; every random draw of the stage derives from it.")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, values: Any) -> Any:
        """Command-line text for what pydantic cannot read from text: ``1,2,3``, ``none``, and choices among numbers."""
        if not isinstance(values, dict):
            return values
        read = dict(values)
        for name, value in values.items():
            field = cls.model_fields.get(name)
            if field is None or not isinstance(value, str):
                continue
            kinds = get_args(field.annotation) if get_origin(field.annotation) is not tuple else ()
            if get_origin(field.annotation) is Literal:
                read[name] = next((choice for choice in kinds if str(choice) == value), value)
                continue
            if value.lower() == "none" and type(None) in kinds:
                read[name] = None
            elif get_origin(field.annotation) is tuple or any(get_origin(kind) is tuple for kind in kinds):
                read[name] = tuple(part.strip() for part in value.split(",") if part.strip())
        return read

    def result_settings(self) -> dict[str, Any]:
        """The settings that decide the result, as plain JSON values."""
        execution = {name for name, field in type(self).model_fields.items() if field.json_schema_extra == EXECUTION}
        return self.model_dump(mode="json", exclude=execution)

    @classmethod
    def load(cls, values: Mapping[str, Any], source: str = "") -> Self:
        """Validated settings from recipe and option values; BadInput lists every fault with its remedy."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise BadInput(settings_faults(cls, error, source)) from None


def settings_faults(model: type[BaseModel], error: ValidationError, source: str = "") -> list[str]:
    """One sentence per fault of a pydantic validation error."""
    prefix = f"{source}: " if source else ""
    faults = []
    for entry in error.errors():
        if not entry["loc"]:  # of values that do not go together: the sentence names them
            faults.append(f"{prefix}{entry['msg'].removeprefix('Value error, ')}")
            continue
        name = ".".join(str(part) for part in entry["loc"])
        top = str(entry["loc"][0])
        if entry["type"] == "extra_forbidden":
            known = ", ".join(model.model_fields)
            faults.append(f"{prefix}unknown setting {name!r}; known are {known}.")
            continue
        field = model.model_fields.get(top)
        meaning = f" ({field.description})" if field is not None and field.description else ""
        reason = entry["msg"].removeprefix("Value error, ")
        faults.append(f"{prefix}{name} = {entry['input']!r}: {reason[:1].lower()}{reason[1:]}{meaning}")
    return faults
