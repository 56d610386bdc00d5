"""docs/reference/commands.md and the table of commands in the README."""

from typing import Any, get_args

from typer.main import get_command

from alseg_cli.app import app
from alseg_cli.options import shared_parameters
from stages.artifacts.model import Model
from stages.artifacts.opening import KINDS
from stages.registry import STAGES, Input, Stage
from stages.settings.text import option_name
from tests.reference.markdown import code, first_sentence, page, table

INTRODUCTION = """A stage reads artifacts and writes one: `alseg STAGE INPUTS... -o OUTPUT [options]`.
`alseg STAGE --help` lists the options that apply to what is chosen, `--help-all` all of them.
They are the [settings](settings.md) of the stage."""

EXIT_CODES = """Exit codes: 0 done or up to date; 1 failure; 2 wrong usage or bad input;
75 stopped by a signal after saving (run the same command again to go on)."""


def commands_page() -> str:
    return page(
        [
            "# Commands",
            INTRODUCTION,
            table(("stage", "reads", "writes"), map(stage_row, STAGES.values())),
            "Every stage that has settings also takes:",
            table(("option", "effect"), shared_rows()),
            EXIT_CODES,
            "## Stages",
            *(stage_section(stage) for stage in STAGES.values()),
            "## Other commands",
            *(tool_section(command) for command in tools()),
        ]
    )


def readme_table() -> str:
    """All commands with a sentence each, for the README."""
    stages = [(code(stage.name), stage.about) for stage in STAGES.values()]
    return table(("command", "effect"), [*stages, *((code(each.name), first_sentence(each.help)) for each in tools())])


def stage_row(stage: Stage) -> tuple[str, str, str]:
    """Name, inputs and output; links in the table of stages are relative to the repository."""
    return f"[`{stage.name}`](#{stage.name})", stage.reads_text, stage.writes_text.replace("](docs/", "](../")


def stage_section(stage: Stage) -> str:
    notes = [stage.about, stage.details]
    notes += ["It runs on several GPUs under `torchrun`."] if stage.torchrun else []
    notes += ["Array jobs share its work by `--shard` ([several nodes](../cluster.md#shards))."] if stage.shards else []
    notes += ["It cannot be a step of a recipe."] if not stage.plannable else []
    output = "" if stage.output_help == "Output file." else f" {stage.output_help}"
    settings = f" Settings: [{stage.name}](settings.md#{stage.name})." if stage.settings is not None else ""
    return page(
        [
            f"### {stage.name}",
            " ".join(note for note in notes if note),
            f"```\n{usage(stage)}\n```",
            table(("input", "kind", "description"), map(input_row, stage.inputs)),
            f"Output: {kind_link(stage.writes)}.{output}{settings}",
        ]
    )


def usage(stage: Stage) -> str:
    words = [f"{each.role.upper()}..." if each.many else each.role.upper() for each in stage.inputs if each.positional]
    words += [f"--{each.role} FILE" for each in stage.inputs if each.required and not each.positional]
    return " ".join(["alseg", stage.name, *words, "-o OUTPUT", "[options]"])


def input_row(each: Input) -> tuple[str, str, str]:
    name = code(each.role.upper() if each.positional else f"--{each.role}")
    required = ", required" if each.required and not each.positional else ""
    return name, " or ".join(map(kind_link, each.kind.split("|"))) + required, each.help


def kind_link(kind: str) -> str:
    """A kind of artifact with a link to what it contains; anything else as it is called."""
    return f"[{kind}](artifacts.md#{kind})" if kind in KINDS or kind == Model.kind else kind


def tools() -> list[Any]:
    """The commands that are no stages, as the program defines them."""
    found: Any = get_command(app)
    return [command for name, command in found.commands.items() if name not in STAGES]


def shared_rows() -> list[tuple[str, str]]:
    """The options that all stages with settings have beside their inputs, output and settings."""
    options = [(each.name, get_args(each.annotation)[1]) for each in shared_parameters()]
    return [(code(option_name(name)), option.help) for name, option in options]


def tool_section(command: Any) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option" and "--help" not in each.opts]
    words = [word_of(each) for each in arguments] + [
        f"{each.opts[-1]} {word_of(each)}" for each in options if each.required
    ]
    ending = ["[options]"] if any(not each.required for each in options) else []
    rows = [(code(word_of(each)), each.help or "") for each in arguments]
    rows += [(code(", ".join(each.opts)), told(each)) for each in options]
    return page(
        [
            f"### {command.name}",
            command.help or "",
            f"```\n{' '.join(['alseg', command.name, *words, *ending])}\n```",
            table(("argument or option", "description"), rows),
        ]
    )


def word_of(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def told(option: Any) -> str:
    """The help of an option and its default, if it has one worth telling."""
    default = option.default
    telling = (
        default is not None
        and not callable(default)
        and not isinstance(default, bool)
        and "[default" not in option.help
    )
    return f"{option.help} Default: {default}." if telling and default != [] else str(option.help)
