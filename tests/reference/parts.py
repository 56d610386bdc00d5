"""docs/reference/parts.md."""

import ast
import inspect
from itertools import pairwise
from typing import Any

from pydantic.fields import FieldInfo

from stages.registry import SETTINGS
from stages.runtime import parts
from stages.runtime.parts import REGISTRIES, Part, Registry
from stages.settings.base import fields_of
from stages.settings.text import option_name
from tests.reference.markdown import code, codes, first_sentence, page, table

INTRODUCTION = """A part is one file with a decorator. The setting named in brackets chooses it.
[Plug-ins](../how-to/plug-ins.md) add parts of your own; this page lists those shipped with alseg."""


def parts_page() -> str:
    return page(["# Parts", INTRODUCTION, *map(section, REGISTRIES.values())])


def section(registry: Registry) -> str:
    shipped = [part for part in registry.parts() if part.origin is None]
    where = f"Files: `{registry.package.replace('.', '/')}/`. Entry points of packages: `{registry.group}`."
    facts = [name for name in registry.facts if not any(callable(part.facts[name]) for part in shipped)]
    rows = [
        (code(part.name), first_sentence(part.about), *(fact(part.facts[name]) for name in facts), own(part))
        for part in shipped
    ]
    return page(
        [
            f"## {registry.kind}{chosen_by(registry)}",
            declared().get(registry.kind, ""),
            where,
            table((registry.kind, "description", *facts, "own settings"), rows),
        ]
    )


def chosen_by(registry: Registry) -> str:
    """The options that name a part of ``registry``, in brackets."""
    found = [
        code(f"{stage} {option_name(name)}")
        for stage, model in SETTINGS.items()
        for name, uses in fields_of(model).items()
        if any(names(field, registry) for _, field in uses)
    ]
    return f" ({', '.join(found)})" if found else ""


def names(field: FieldInfo, registry: Registry) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, dict) and extra.get("registry") is registry


def declared() -> dict[str, str]:
    """What stands below each registry in `stages.runtime.parts`, by kind."""
    found: dict[str, str] = {}
    body = ast.parse(inspect.getsource(parts)).body
    for statement, below in pairwise(body):
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            continue
        registry = getattr(parts, statement.targets[0].id)
        if isinstance(registry, Registry) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found[registry.kind] = " ".join(str(below.value.value).split())
    return found


def fact(value: Any) -> str:
    """What a decorator says, in words; "" for no, none and nothing."""
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, set | frozenset):
        return ", ".join(sorted(map(str, value)))
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def own(part: Part) -> str:
    return "" if part.settings is None else codes(name.replace("_", "-") for name in fields_of(part.settings))
