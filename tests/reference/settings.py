"""docs/reference/settings.md."""

from collections.abc import Iterable
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from stages.registry import SETTINGS
from stages.settings.base import EXECUTION, Settings, Uses, belongs, choices, fields_of
from stages.settings.text import shown
from tests.reference.markdown import code, codes, page, table

INTRODUCTION = """The same names are used everywhere: `head_lr = 1e-3` under `[settings.train]` in a recipe or profile,
`--head-lr 1e-3` as an option, `head_lr=1e-3` as a keyword of the [library](../library.md).

Settings under a heading with a condition, such as *method sieve*, exist only under it; setting one otherwise is an
error. Settings marked † decide where and how fast a stage runs, not what it computes; changing them makes no output
stale. See [settings and freshness](../explanation/settings.md)."""

NAMES: dict[Any, str] = {int: "integer", float: "number", str: "text", bool: "`true`, `false`", type(None): "`none`"}


def settings_page() -> str:
    sections = [section(name, model) for name, model in SETTINGS.items()]
    return page(["# Settings", INTRODUCTION, *sections])


def section(stage: str, model: type[Settings]) -> str:
    groups: dict[str, list[tuple[str, ...]]] = {"": []}
    for name, uses in fields_of(model).items():
        always = any(not conditions for conditions, _ in uses)
        groups.setdefault("" if always else belongs(uses), []).append(row(name, uses))
    blocks = [f"## {stage}"]
    for condition, rows in groups.items():
        blocks += [f"### {stage}: {condition}"] if condition else []
        blocks.append(table(("setting", "value", "default", "description"), rows))
    return page(blocks)


def row(name: str, uses: Uses) -> tuple[str, ...]:
    (_, field), *_ = uses
    defaults = dict.fromkeys(shown(each.default) for _, each in uses)
    mark = " †" if field.json_schema_extra == EXECUTION else ""
    return code(name.replace("_", "-")) + mark, value(field), " or ".join(map(code, defaults)), field.description or ""


def value(field: FieldInfo) -> str:
    """What a setting may be: its choices, or its kind and range."""
    listed = choices(field)
    return codes(listed) if listed is not None else kind(field.annotation, field.metadata)


def kind(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """A type in words: ``integer, at least 1, or `none```."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind(inside[0], inside[1:])
    if origin is Literal:
        return codes(map(str, inside))
    if origin in (Union, UnionType):
        return ", or ".join(kind(each, () if each is type(None) else metadata) for each in inside)
    if origin is tuple:
        name, comma, limits = kind(inside[0]).partition(", ")
        many = "" if inside[-1] is Ellipsis else f"{len(inside)} "
        return f"{many}{name}s separated by commas" + (f", each {limits}" if comma else "")
    return NAMES.get(annotation, getattr(annotation, "__name__", "text")) + span(metadata)


def span(metadata: Iterable[Any]) -> str:
    """The range that pydantic checks, in words; "" for none."""
    words = []
    for each in metadata:
        if isinstance(each, Ge):
            words.append(f"at least {number(each.ge)}")
        elif isinstance(each, Gt):
            words.append(f"above {number(each.gt)}")
        elif isinstance(each, Le):
            words.append(f"at most {number(each.le)}")
        elif isinstance(each, Lt):
            words.append(f"below {number(each.lt)}")
        elif hasattr(each, "metadata"):
            words += [span(each.metadata).removeprefix(", ")]
    return "".join(f", {word}" for word in words if word)


def number(limit: Any) -> str:
    return "2^63" if limit == 2**63 else f"{limit:g}"
