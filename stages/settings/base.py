"""Base of all settings models: frozen, nested, with flat names outside and all faults reported at once.

One model per stage defines the defaults, the TOML schema, the command-line options and the help text. A setting that
only one unit, rule or objective reads is in a nested model, a group, which exists only if it applies. Outside, in
recipes, options, headers and keyword arguments, all names are flat.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Self, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator
from pydantic.fields import FieldInfo

from stages.runtime.errors import BadInput
from stages.runtime.parts import Part, Registry
from stages.runtime.spelling import close_names

# Marks fields that decide where and how fast a stage runs but not what it computes. They are ignored when deciding
# whether an output is up to date.
EXECUTION: dict[str, Any] = {"execution": True}


WITHOUT = "without"


@dataclass(frozen=True)
class Condition:
    """A group exists if the setting ``chooser`` has one of ``values``, or, if ``negated``, none of them."""

    chooser: str
    values: tuple[str, ...]
    negated: bool = False

    def holds(self, value: Any) -> bool:
        return (comparable(value) in map(comparable, self.values)) != self.negated

    def __str__(self) -> str:
        name, values = self.chooser.replace("_", "-"), ", ".join(map(typed, self.values))
        if self.values in (("True",), ("False",), ("None",)):  # a flag, or a setting that is absent by default
            return f"--{name}" if (self.values == ("True",)) != self.negated else f"{WITHOUT} --{name}"
        return f"any {name} except {values}" if self.negated else f"{name} {values}"


class Not(tuple[str, ...]):
    """In `group`: all values except these."""

    def __new__(cls, *values: str) -> "Not":
        return super().__new__(cls, values)


def told(name: str, value: Any) -> str:
    """A setting with its value, as conditions are told."""
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{option}" if value else f"{WITHOUT} --{option}"
    return f"{option} {typed(value)}"


def comparable(value: Any) -> str:
    """A chooser's value in comparable form: 0, 0.0 and "0" are equal, and so are False and "false"."""
    text = str(value).lower()
    try:
        return str(float(text))
    except ValueError:
        return text


def typed(value: Any) -> str:
    """A chooser's value as typed on the command line."""
    return "none" if value in (None, "None") else str(value)


@dataclass(frozen=True)
class Group:
    """A nested model: a fixed ``model``, or that of the part which the setting ``chooser`` names."""

    conditions: tuple[Condition, ...] = ()
    model: "type[Settings] | None" = None
    chooser: str = ""
    registry: Registry | None = None

    def alternatives(self) -> "list[tuple[tuple[Condition, ...], type[Settings]]]":
        """Each model that the group can have, with the conditions for it."""
        if self.registry is None:
            assert self.model is not None
            return [(self.conditions, self.model)]
        return [
            ((*self.conditions, Condition(self.chooser, (part.name,))), part.settings)
            for part in self.registry.parts()
            if part.settings is not None
        ]


def group(**conditions: str | tuple[str, ...]) -> Any:
    """A nested model that exists if all ``conditions`` (chooser -> value, values or `Not` of values) hold."""
    listed = tuple(
        Condition(chooser, (values,) if isinstance(values, str) else tuple(values), isinstance(values, Not))
        for chooser, values in conditions.items()
    )
    return Field(None, json_schema_extra={"group": listed}, repr=False)  # type: ignore[dict-item]


def part_group(chooser: str) -> Any:
    """The settings of the part that the setting ``chooser`` (see `chosen`) names."""
    return Field(None, json_schema_extra={"group_of": chooser}, repr=False)


def chosen(registry: Registry, default: str, description: str, also: tuple[str, ...] = ()) -> Any:
    """A setting that names a part of ``registry``, or one of the reserved names ``also``."""
    return Field(default, description=description, json_schema_extra={"registry": registry, "also": also})  # type: ignore[dict-item]


class Settings(BaseModel):
    """Base of all settings models. Values are accepted under flat names, whatever group they belong to."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    _given: dict[str, Any] = PrivateAttr(default_factory=dict)
    _explicit: frozenset[str] = PrivateAttr(default=frozenset())

    def __init__(self, **values: Any):
        super().__init__(**values)
        self._given, self._explicit = dict(values), frozenset(values)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    @model_validator(mode="before")
    @classmethod
    def _arrange(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        arranged, faults = arrange(cls, values, frozenset(values), {})
        if faults:
            raise ValueError("; ".join(faults))
        return arranged

    @classmethod
    @cache
    def groups(cls) -> dict[str, Group]:
        """The nested models by field name."""
        return {name: found for name, field in cls.model_fields.items() if (found := as_group(cls, field)) is not None}

    @classmethod
    @cache
    def own_fields(cls) -> dict[str, FieldInfo]:
        """The fields that are settings, without groups."""
        return {name: field for name, field in cls.model_fields.items() if as_group(cls, field) is None}

    @classmethod
    def load(
        cls, values: Mapping[str, Any], source: str = "", offered: Mapping[str, Any] | None = None, **known: str
    ) -> Self:
        """Validated settings from flat ``values``; BadInput lists all faults with their remedies.

        ``offered`` are values of lower priority that need not apply, such as those of a recipe for all steps of a
        stage. ``known`` are the values of choosers that are not settings of this model, such as the unit of scores.
        """
        merged, explicit = {**(offered or {}), **values}, frozenset(values)
        prefix = f"{source}: " if source else ""
        arranged, faults = arrange(cls, merged, explicit, known)
        faults = [prefix + fault for fault in faults]
        try:
            made = cls.model_validate(arranged)
        except ValidationError as error:
            raise BadInput([*faults, *settings_faults(cls, error, source)]) from None
        if faults:
            raise BadInput(faults)
        made._given, made._explicit = merged, explicit
        return made

    def settled(self, source: str = "", **known: str) -> Self:
        """The same settings once the choosers ``known`` have values; BadInput for explicit settings that do not apply.

        ``source`` names where those values come from, such as the file of scores for their unit.
        """
        explicit = {name: value for name, value in self._given.items() if name in self._explicit}
        offered = {name: value for name, value in self._given.items() if name not in self._explicit}
        return type(self).load(explicit, source, offered, **known)

    def offered(self, values: Mapping[str, Any], source: str = "") -> Self:
        """The same settings with ``values`` where they were not set explicitly; BadInput for faults in ``source``."""
        explicit = {name: value for name, value in self._given.items() if name in self._explicit}
        return type(self).load(explicit, source, self._given | dict(values))

    def leaves(self) -> Iterator[tuple[str, FieldInfo, Any]]:
        """Flat name, field and value of each setting that applies."""
        groups = type(self).groups()
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if name not in groups:
                yield name, field, value
            elif value is not None:
                yield from value.leaves()

    def flat(self) -> dict[str, Any]:
        """All settings that apply, by flat name, as plain JSON values."""
        return {name: plain(value) for name, _, value in self.leaves()}

    def result_settings(self) -> dict[str, Any]:
        """The settings that affect the result, by flat name, as plain JSON values."""
        return {name: plain(value) for name, field, value in self.leaves() if field.json_schema_extra != EXECUTION}

    def defaults(self) -> dict[str, Any]:
        """The default of each setting that applies, by flat name, as plain JSON values."""
        return {name: plain(field.default) for name, field, _ in self.leaves()}

    def parts(self) -> list[Part]:
        """The registered parts that the settings name."""
        return [
            registry[value]
            for _, field, value in self.leaves()
            if (registry := registry_of(field)) is not None and value in registry
        ]


class PartSettings(Settings):
    """Base of the settings that only one part reads."""

    def note(self, round_number: int) -> str:
        """What to tell somebody whose settings have no effect in this round; "": nothing."""
        return ""


Existing = TypeVar("Existing", bound=Settings)


def existing(group: Existing | None) -> Existing:
    """Returns ``group``, which must exist because the caller has checked its choosers."""
    assert group is not None
    return group


class StageSettings(Settings):
    """Base of each stage's settings."""

    seed: int = Field(0, ge=0, lt=2**63, description="Random seed.")
    trust: bool = Field(
        False,
        description="Whether an output is up to date without being checked for damage.",
        json_schema_extra=EXECUTION,
    )

    @property
    def keeps_features(self) -> bool:
        """Whether the stage keeps features that other stages can use, and no folder is chosen for them."""
        return False

    @property
    def divisible(self) -> bool:
        """Whether processes that know nothing of each other may each do a share, if the stage takes --shard."""
        return True

    @property
    def shared_predictions(self) -> tuple[Any, ...] | None:
        """What predictions of one model depend on, if the stage takes any that it can share with other stages."""
        values = {name: value for name, _, value in self.leaves()}
        if values.get("predictions", "") is not None:  # none to share, or a folder that the user chose
            return None
        return tuple(values[name] for name in ("checkpoint", "input_scale", "input_filter", "device", "precision"))


Uses = list[tuple[tuple[Condition, ...], FieldInfo]]
"""The uses of a flat name: conditions and field, one pair per group that has it."""


def fields_of(model: type[Settings]) -> Mapping[str, Uses]:
    """Each flat name of ``model`` and its groups, with the conditions under which it applies."""
    return fields_among(model, Registry.registrations)


@cache
def fields_among(model: type[Settings], registrations: int) -> Mapping[str, Uses]:
    """`fields_of` while so many parts are registered: settings of parts come with them."""
    found: dict[str, Uses] = {}

    def walk(current: type[Settings], conditions: tuple[Condition, ...]) -> None:
        groups = current.groups()
        for name, field in current.model_fields.items():
            if name not in groups:
                found.setdefault(name, []).append((conditions, field))
                continue
            for own, nested in groups[name].alternatives():
                walk(nested, (*conditions, *own))

    walk(model, ())
    return found


def as_group(model: type[BaseModel], field: FieldInfo) -> Group | None:
    extra = field.json_schema_extra
    if not isinstance(extra, dict):
        return None
    if "group_of" in extra:
        chooser = str(extra["group_of"])
        registry = registry_of(model.model_fields[chooser])
        return Group(chooser=chooser, registry=registry)
    if "group" in extra:
        (nested,) = [kind for kind in get_args(field.annotation) or (field.annotation,) if kind is not type(None)]
        return Group(conditions=extra["group"], model=nested)  # type: ignore[arg-type]
    return None


def registry_of(field: FieldInfo) -> Registry | None:
    """The registry whose parts a setting names; None for a setting that names no part."""
    extra = field.json_schema_extra
    return extra.get("registry") if isinstance(extra, dict) else None  # type: ignore[return-value]


def choices(field: FieldInfo) -> list[str] | None:
    """The allowed values of a setting; None if they are not a list."""
    registry = registry_of(field)
    if registry is not None:
        assert isinstance(field.json_schema_extra, dict)
        return sorted([*registry.names(), *field.json_schema_extra["also"]])  # type: ignore[misc]
    if get_origin(field.annotation) is Literal:
        return [str(value) for value in get_args(field.annotation)]
    return None


def plain(value: Any) -> Any:
    """A value as JSON stores it, with tuples as lists."""
    return [plain(part) for part in value] if isinstance(value, tuple | list) else value


def arrange(
    model: type[Settings], values: Mapping[str, Any], explicit: frozenset[str], context: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Flat ``values`` sorted into the fields and groups of ``model``, and their faults.

    ``context`` are the values of choosers in outer models. A group whose chooser is not known yet exists until
    `settled`.
    """
    own, groups = model.own_fields(), model.groups()
    arranged = {name: read_text(own[name], value) for name, value in values.items() if name in own}
    faults: list[str] = []
    known, undecided = dict(context), False
    for name, field in own.items():
        value = arranged.get(name, field.default)
        allowed = choices(field)
        if allowed is None or str(value) in allowed:
            known[name] = value
        elif (registry := registry_of(field)) is not None:
            faults.append(registry.unknown(str(value), allowed))
            arranged.pop(name)
            undecided = True
        else:
            undecided = True
    rest = {name: value for name, value in values.items() if name not in own and name not in groups}
    inside: dict[str, dict[str, Any]] = {}
    inner: dict[str, Any] = {}  # choosers in nested models
    for field_name, each in groups.items():
        if field_name in values:  # already arranged
            arranged[field_name] = values[field_name]
            continue
        nested = active_model(each, known)
        arranged[field_name] = None
        if nested is None:
            continue
        names = applicable(nested, rest, known)
        inside[field_name] = {name: rest[name] for name in names}
        built, wrong = build_group(nested, inside[field_name], explicit, known)
        faults += wrong
        arranged[field_name] = built
        if built is not None:
            inner |= {name: value for name, _, value in built.leaves()}
    taken = {name for part in inside.values() for name in part}
    left = sorted(rest.keys() - taken)
    everything = fields_of(model) if left else {}
    for name in left:
        if name not in everything:
            faults.append(unknown_setting(name, everything))
        elif name in explicit and not undecided:
            faults.append(f"{name.replace('_', '-')} {misplaced(everything[name], inner | known)}")
    return arranged, faults


def active_model(each: Group, known: Mapping[str, Any]) -> type[Settings] | None:
    """The nested model that exists given the choosers ``known``; unknown choosers exclude nothing."""
    if any(c.chooser in known and not c.holds(known[c.chooser]) for c in each.conditions):
        return None
    if each.registry is None:
        return each.model
    name = known.get(each.chooser)
    return each.registry[name].settings if name is not None and name in each.registry else None


def applicable(model: type[Settings], values: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    """The flat names in ``values`` that ``model`` takes: its own, and those of the groups that exist."""
    own = model.own_fields()
    inner = dict(known)
    for name, field in own.items():
        inner[name] = read_text(field, values[name]) if name in values else field.default
    found = [name for name in values if name in own]
    for each in model.groups().values():
        nested = active_model(each, inner)
        if nested is not None:
            found += [name for name in applicable(nested, values, inner) if name not in found]
    return found


def build_group(
    nested: type[Settings], values: Mapping[str, Any], explicit: frozenset[str], known: Mapping[str, Any]
) -> tuple[Settings | None, list[str]]:
    arranged, faults = arrange(nested, values, explicit, known)
    try:
        return nested.model_validate(arranged), faults
    except ValidationError as error:
        return None, [*faults, *settings_faults(nested, error)]


def misplaced(uses: Uses, known: Mapping[str, Any]) -> str:
    """The message for a setting that does not apply: why, and when it does."""
    broken = [
        [
            told(condition.chooser, known[condition.chooser])
            for condition in conditions
            if condition.chooser in known and not condition.holds(known[condition.chooser])
        ]
        for conditions, _ in uses
    ]
    fewest = min(map(len, broken))
    reasons = dict.fromkeys(reason for reasons in broken if len(reasons) == fewest for reason in reasons)
    to = f"does not apply to {' and '.join(reasons)}" if reasons else "does not apply"
    applies = belongs(uses)
    to = to.replace(f"to {WITHOUT}", WITHOUT)
    return f"{to}; {'use it' if applies.startswith(WITHOUT) else 'it is for'} {applies}."


def belongs(uses: Uses) -> str:
    """The conditions under which a setting applies, in words: ``rule pool, top``."""
    found = list(dict.fromkeys(conditions for conditions, _ in uses))
    for place in range(max(map(len, found))):  # join entries that differ only in the values of one condition
        joined: dict[tuple[Any, ...], tuple[Condition, ...]] = {}
        for conditions in found:
            if place >= len(conditions):
                joined[conditions] = conditions
                continue
            own = conditions[place]
            key = (*conditions[:place], own.chooser, own.negated, *conditions[place + 1 :])
            before = joined[key][place].values if key in joined else ()
            values = tuple(dict.fromkeys((*before, *own.values)))
            joined[key] = (*conditions[:place], Condition(own.chooser, values, own.negated), *conditions[place + 1 :])
        found = list(joined.values())
    joined_words = (" with ".join(str(condition) for condition in reversed(conditions)) for conditions in found)
    return " or ".join(words.replace(f"with {WITHOUT}", WITHOUT) for words in joined_words)


def read_text(field: FieldInfo, value: Any) -> Any:
    """Converts command-line text that pydantic cannot read: ``1,2,3``, ``none``, and choices among numbers."""
    if not isinstance(value, str):
        return value
    kinds = get_args(field.annotation) if get_origin(field.annotation) is not tuple else ()
    if get_origin(field.annotation) is Literal:
        return next((choice for choice in kinds if str(choice) == value), value)
    if value.lower() == "none" and type(None) in kinds:
        return None
    if get_origin(field.annotation) is tuple or any(get_origin(kind) is tuple for kind in kinds):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def unknown_setting(name: str, known: Iterable[str]) -> str:
    """The message for a name that is not a setting."""
    close = close_names(name, known)
    hint = f"did you mean {' or '.join(close)}?" if close else "no setting has a similar name (see --help-all)."
    return f"unknown setting {name!r}; {hint}"


def settings_faults(model: type[BaseModel], error: ValidationError, source: str = "") -> list[str]:
    """One sentence per fault of a pydantic validation error."""
    prefix = f"{source}: " if source else ""
    faults = []
    groups = model.groups() if issubclass(model, Settings) else {}
    told: set[str] = set()
    for entry in error.errors():
        if not entry["loc"]:  # from a validator of several values, whose message names them
            faults.append(f"{prefix}{entry['msg'].removeprefix('Value error, ')}")
            continue
        name = ".".join(str(part) for part in entry["loc"])
        top = str(entry["loc"][0])
        if entry["type"] == "extra_forbidden":
            faults.append(prefix + unknown_setting(name, model.model_fields))
            continue
        if (entry["input"] is None and top in groups) or (entry["type"] == "too_short" and top in told):
            continue  # only the consequence of a fault that is told already
        told.add(top)
        field = model.model_fields.get(top)
        meaning = f" ({field.description})" if field is not None and field.description else ""
        reason = entry["msg"].removeprefix("Value error, ")
        faults.append(f"{prefix}{name} = {entry['input']!r}: {reason[:1].lower()}{reason[1:]}{meaning}")
    return faults
