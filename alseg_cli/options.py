"""Settings models as Typer options: the model is the one definition of names, defaults, types and help."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from stages.recipes.recipe import load_recipe
from stages.registry import SETTINGS
from stages.runtime.errors import BadInput
from stages.settings.base import EXECUTION, StageSettings

PANELS = {True: "Where and how fast it runs", False: "Settings"}


def option_name(field: str) -> str:
    return "--" + field.replace("_", "-")


def shown(value: Any) -> str:
    """A value as it would be typed on the command line."""
    if isinstance(value, tuple | list):
        return ",".join(shown(part) for part in value)
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def metavar(annotation: Any) -> str:
    """What the help shows as the kind of value."""
    if get_origin(annotation) is Literal:
        return "|".join(str(value) for value in get_args(annotation))
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    if get_origin(annotation) is tuple or any(get_origin(kind) is tuple for kind in kinds):
        return "A,B,..."
    if type(None) in get_args(annotation):
        return f"{metavar(kinds[0])}|none"
    return {int: "INTEGER", float: "NUMBER"}.get(annotation, "TEXT")


def option(name: str, field: FieldInfo) -> inspect.Parameter:
    """One option; absent means: take the recipe's value or the default. Values are checked by the settings model."""
    panel = PANELS[field.json_schema_extra == EXECUTION]
    text = f"{field.description} (default: {shown(field.default)})"
    if field.annotation is bool:
        names = (f"{option_name(name)}/--no-{name.replace('_', '-')}",)
        kind: Any = Annotated[bool | None, typer.Option(*names, help=text, show_default=False, rich_help_panel=panel)]
    else:
        detail = typer.Option(
            option_name(name), help=text, show_default=False, metavar=metavar(field.annotation), rich_help_panel=panel
        )
        kind = Annotated[str | None, detail]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)


RECIPE = inspect.Parameter(
    "recipe",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        str | None, typer.Option(help="Take the settings from a recipe (shipped name or TOML file); options override.")
    ],
)
PROFILE = inspect.Parameter(
    "profile",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[str | None, typer.Option(help="The recipe's profile for a dataset, such as camvid.")],
)
FORCE = inspect.Parameter(
    "force",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[bool, typer.Option("--force", help="Build again even when the output is up to date.")],
)


def gather(stage: str, given: dict[str, Any], recipe: str | None, profile: str | None) -> StageSettings:
    """The settings of ``stage``: defaults, then the recipe and its profile, then the options given."""
    if profile is not None and recipe is None:
        raise BadInput("--profile belongs to a recipe; give --recipe too.")
    values = load_recipe(recipe).stage_values(stage, profile) if recipe is not None else {}
    values |= {name: value for name, value in given.items() if value is not None}
    return SETTINGS[stage].load(values, stage)


def stage_command(app: typer.Typer, stage: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a function as the command of ``stage``.

    The function's parameters but the last two (``settings``, ``force``) are its inputs and its output; the options of
    the settings model, --recipe, --profile and --force are added to the command.
    """
    fields = SETTINGS[stage].model_fields

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(function, eval_str=True)
        own = [p for p in signature.parameters.values() if p.name not in ("settings", "force")]
        options = [option(name, field) for name, field in fields.items()]

        @functools.wraps(function)
        def command(**arguments: Any) -> None:
            given = {name: arguments.pop(name) for name in fields}
            force = arguments.pop("force")
            settings = gather(stage, given, arguments.pop("recipe"), arguments.pop("profile"))
            function(**arguments, settings=settings, force=force)

        own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        command.__signature__ = signature.replace(parameters=[*own, RECIPE, PROFILE, FORCE, *options])  # type: ignore[attr-defined]
        command.__annotations__ = {}
        app.command(stage)(command)
        return function

    return register
