"""Stages as commands: inputs and output from the table of stages, options from the settings models."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from rich.table import Table
from typer.core import TyperCommand, TyperOption
from typer.main import get_command_from_info
from typer.models import CommandInfo

from stages.recipes.recipe import load_recipe
from stages.recipes.resolve import resolve
from stages.registry import STAGES, Input, Stage
from stages.runtime.console import print_table
from stages.runtime.errors import BadInput
from stages.runtime.parts import load_plugin
from stages.runtime.shares import parse_share
from stages.settings.base import Uses, belongs, choices, fields_of
from stages.settings.text import option_name, shown

LONGEST_METAVAR = 20


def stage_command(stage: Stage, words: list[str]) -> TyperCommand:
    """The command of ``stage``; ``words`` are the words after its name, whose plug-ins and recipe may add options."""
    preload(words)
    fields = {} if stage.settings is None else fields_of(stage.settings)
    roles = {each.role for each in stage.inputs}

    def command(**arguments: Any) -> None:
        files = {role: arguments.pop(role) for role in roles}
        output = arguments.pop("output")
        if stage.settings is None:
            stage.run(output=output, **files)
            return
        given = {name: value for name in fields if (value := arguments.pop(name)) is not None}
        dataset = files.get("dataset")
        found = resolve(stage.name, given, arguments["recipe"], arguments["profile"], dataset)
        if arguments["print_settings"]:
            print_settings(found.settings.flat(), found.sources)
            return
        share = arguments.get("shard")
        if share is not None:
            files["share"] = parse_share(share)
        stage.run(output=output, settings=found.settings, force=arguments["force"], **files)

    parameters = [input_parameter(each) for each in stage.inputs]
    parameters.insert(sum(each.positional for each in stage.inputs), output_parameter(stage))
    if stage.settings is not None:
        parameters += [
            *shared_parameters(),
            *([shard_parameter()] if stage.shards else []),
            *(setting(name, uses) for name, uses in fields.items()),
        ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {}
    text = f"{stage.about}\n\n{stage.details}".strip()
    info = CommandInfo(name=stage.name, callback=command, help=text, cls=StageCommand)
    info.context_settings = {"help_option_names": ["-h", "--help"]}
    made = get_command_from_info(info, pretty_exceptions_short=True, rich_markup_mode=None)
    assert isinstance(made, StageCommand)
    made.stage = stage
    return made


class StageCommand(TyperCommand):
    """A command whose --help shows the settings that apply to the options given, and whose --help-all shows all."""

    stage: Stage

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if any(word in ("-h", "--help") for word in args) and self.stage.settings is not None:
            shown_names = self.applying(args)
            for parameter in self.params:
                uses_settings = parameter.name in fields_of(self.stage.settings)
                if isinstance(parameter, TyperOption) and uses_settings:
                    parameter.hidden = parameter.name not in shown_names
        return super().parse_args(ctx, args)

    def applying(self, args: list[str]) -> set[str]:
        """The settings that apply to the options typed so far; all settings if these cannot be read."""
        assert self.stage.settings is not None
        fields = fields_of(self.stage.settings)
        given = {name: value for name, value in typed(args).items() if name in fields}
        options = typed(args)
        try:
            found = resolve(self.stage.name, {}, options.get("recipe"), options.get("profile"))
            return set(self.stage.settings.load({}, "", found.settings.flat() | given).flat())
        except BadInput:
            return set(fields)


def typed(args: list[str]) -> dict[str, str]:
    """Options and values among the words of a command, parsed roughly; flags are "true"."""
    found: dict[str, str] = {}
    for word, following in zip(args, [*args[1:], "-"], strict=False):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            found[name.replace("-", "_")] = value if equals else "true" if following.startswith("-") else following
    return found


def preload(words: list[str]) -> None:
    """Loads the plug-ins that the words name, directly or through a recipe, because they may add options."""
    for word, following in zip(words, [*words[1:], ""], strict=False):
        name, equals, value = word.partition("=")
        if name == "--plugin":
            load_plugin(value if equals else following)
        elif name == "--recipe":
            load_recipe(value if equals else following)


def input_parameter(each: Input) -> inspect.Parameter:
    """The argument or option of one input."""
    kind: Any = Path if each.kind != "description" else str
    metavar = each.role.upper().removesuffix("S") + "..." if each.many else each.role.upper()
    if each.positional:
        detail: Any = typer.Argument(help=each.help, metavar=metavar, show_default=False)
        annotation = Annotated[list[kind] if each.many else kind, detail]  # type: ignore[valid-type]
        return inspect.Parameter(each.role, inspect.Parameter.KEYWORD_ONLY, annotation=annotation)
    detail = typer.Option(f"--{each.role}", help=each.help, metavar="FILE" if each.kind != "folder" else "FOLDER")
    if each.required:
        return inspect.Parameter(each.role, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[kind, detail])
    return inspect.Parameter(
        each.role, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, detail]
    )


def output_parameter(stage: Stage) -> inspect.Parameter:
    detail = typer.Option("-o", "--output", help=stage.output_help, metavar="FILE")
    return inspect.Parameter("output", inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[Path, detail])


def shared_parameters() -> list[inspect.Parameter]:
    """The options of all stages with settings."""

    def help_all(ctx: typer.Context, value: bool) -> None:
        if value:
            for parameter in ctx.command.params:
                if isinstance(parameter, TyperOption):
                    parameter.hidden = False
            typer.echo(ctx.get_help())
            raise typer.Exit

    details: dict[str, tuple[Any, Any, Any]] = {
        "recipe": (str | None, None, typer.Option(help="Recipe to take settings from.", metavar="NAME|FILE")),
        "profile": (str | None, None, typer.Option(help="Profile to take settings from.", metavar="NAME|FILE")),
        "plugin": (
            list[Path] | None,
            None,
            typer.Option(help="Load a Python file that registers measures, rules or other parts.", metavar="FILE"),
        ),
        "force": (bool, False, typer.Option("--force", help="Rebuild the output even if it is up to date.")),
        "print_settings": (
            bool,
            False,
            typer.Option("--print-settings", help="Print the settings and where each comes from, and exit."),
        ),
        "help_all": (
            bool,
            False,
            typer.Option("--help-all", help="Show all settings and exit.", is_eager=True, callback=help_all),
        ),
    }
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, detail])
        for name, (kind, default, detail) in details.items()
    ]


def shard_parameter() -> inspect.Parameter:
    """The option of the stages whose work several processes can share."""
    text = "Do only share K of N, K from 0 to N-1, as a task of an array job; the same command without it joins them."
    kind = Annotated[str | None, typer.Option("--shard", help=text, metavar="K/N", show_default=False)]
    return inspect.Parameter("shard", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)


def setting(name: str, uses: Uses) -> inspect.Parameter:
    """One option; if absent, the recipe's value or the default applies. The settings model checks values."""
    (_, field), *_ = uses
    always = any(not each for each, _ in uses)
    what = "" if always else f" ({belongs(uses)})"
    defaults = " or ".join(dict.fromkeys(shown(each.default) for _, each in uses))
    listed = choices(field) if metavar(field) == "NAME" else None
    known = f" One of {', '.join(listed)}." if listed else ""
    text = f"{field.description}{known} (default: {defaults}){what}"
    if field.annotation is bool:
        both = f"{option_name(name)}/{option_name(name, on=False)}"
        kind: Any = Annotated[bool | None, typer.Option(both, help=text, show_default=False)]
    else:
        detail = typer.Option(option_name(name), help=text, show_default=False, metavar=metavar(field))
        kind = Annotated[str | None, detail]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)


def metavar(field: Any) -> str:
    """The placeholder of a value in the help; long lists of choices are in the text instead."""
    listed = choices(field)
    if listed is None:
        return kind_of(field.annotation)
    joined = "|".join(listed)
    return joined if len(joined) <= LONGEST_METAVAR else "NAME"


def kind_of(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "|".join(str(value) for value in get_args(annotation))
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    if get_origin(annotation) is tuple or any(get_origin(kind) is tuple for kind in kinds):
        return "A,B,..."
    if type(None) in get_args(annotation):
        return f"{kind_of(kinds[0])}|none"
    return {int: "INTEGER", float: "NUMBER"}.get(annotation, "TEXT")


def print_settings(values: Mapping[str, Any], sources: Mapping[str, str]) -> None:
    """Prints the settings that a stage would run with, and where each value comes from."""
    table = Table("setting", "value", "from", box=None, pad_edge=False)
    for name in sorted(values):
        table.add_row(name.replace("_", "-"), shown(values[name]), sources[name])
    print_table(table)


def light_command(stage: Stage) -> TyperCommand:
    """The command of a stage without its options, for the list of commands."""
    return TyperCommand(stage.name, help=stage.about)


def commands() -> list[str]:
    """The stages, in the order in which a round runs them."""
    return list(STAGES)
