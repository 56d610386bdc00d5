"""The commands: one per stage, from the table of stages, and others for artifacts and runs."""

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from alseg_cli.exits import end_quietly, exit_codes, open_standard_streams
from alseg_cli.options import commands, light_command, stage_command
from stages.recipes.people import Way
from stages.registry import STAGES
from stages.runtime.errors import BadInput
from stages.settings.common import Device, Precision


class Commands(TyperGroup):
    """Builds the command of a stage, with its many options, only when it is called, so `alseg --help` is fast."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*commands(), *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        stage = STAGES.get(cmd_name)
        return super().get_command(ctx, cmd_name) if stage is None else light_command(stage)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        stage = STAGES.get(args[0]) if args else None
        if stage is None:
            return super().resolve_command(ctx, args)
        return stage.name, stage_command(stage, args[1:]), args[1:]


app = typer.Typer(
    name="alseg",
    cls=Commands,
    help="Active learning for semantic segmentation: select what to label next, take the answers, train, evaluate.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"alseg {version('alseg')}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=print_version)
    ] = False,
) -> None:
    """Active learning for semantic segmentation: select what to label next, take the answers, train, evaluate."""


Full = Annotated[Path | None, typer.Option(help="Run trained on full masks, drawn as a reference line.", metavar="RUN")]
Epoch = Annotated[str, typer.Option(help="Epoch to report.", metavar="last|best")]
Which = Annotated[str, typer.Option(help="Evaluation of a round to use, such as stage1-evaluation.")]


@app.command("inspect")
def inspect(
    file: Annotated[Path, typer.Argument(help="Artifact.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    dataset: Annotated[
        Path | None, typer.Option(help="Dataset of the artifact, to compare with the ground truth, or if it was moved.")
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="Image to draw (--png). [default: the first; for whole images a sheet of many]")
    ] = None,
    png: Annotated[Path | None, typer.Option(help="Draw an overlay of one image, or a model's prediction.")] = None,
    against: Annotated[Path | None, typer.Option(help="Other queries to compare these queries with.")] = None,
) -> None:
    """Show the contents and provenance of an artifact, or draw it with --png."""
    from stages.reporting import inspection

    inspection.run(file, json, dataset, image, png, against)


@app.command("verify")
def verify(
    files: Annotated[list[Path], typer.Argument(help="Artifacts.", metavar="FILE...")],
    device: Annotated[Device, typer.Option(help="Report what was computed on another device.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="Report what was computed in another precision.")] = "auto",
    same_device: Annotated[bool, typer.Option("--same-device", help="Count what they report as stale.")] = False,
) -> None:
    """Check that artifacts are undamaged and up to date with their inputs."""
    from stages.artifacts.verify import verify_files

    verify_files(files, device, precision, same_device)


@app.command("init")
def init(
    images: Annotated[Path, typer.Argument(help="Folder with your images, and their masks if there are any.")],
    run: Annotated[Path, typer.Option("-o", "--output", help="Run folder.", metavar="RUN")] = Path("run"),
    classes: Annotated[
        str | None, typer.Option(help="Classes; with masks also their values or colours.", metavar="NAME[=VALUE],...")
    ] = None,
    masks: Annotated[Path | None, typer.Option(help="Folder with the masks. [default: found by names]")] = None,
    shares: Annotated[
        str | None, typer.Option(help="Shares of images for train, val and test.", metavar="TRAIN,VAL,TEST")
    ] = None,
    recipe: Annotated[str, typer.Option(help="Recipe: what to ask people about.")] = "alseg",
    profile: Annotated[
        str | None, typer.Option(help="Profile: how hard to train. [default: own on CUDA, own-cpu elsewhere]")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Initial weights: imagenet, none or a file. [default: the profile's]")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds. [default: the profile's]")] = None,
    budget: Annotated[int | None, typer.Option(min=1, help="Queries per round. [default: the recipe's]")] = None,
    long_side: Annotated[
        int | None, typer.Option(min=8, help="Longer side to resize images to. [default: by device and images]")
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(
            min=32, max=8192, help="Side of tiles to cut images into. [default: none, unless images are too large]"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the splits.")] = 0,
    device: Annotated[Device, typer.Option(help="Device to train on.")] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is found and write nothing.")] = False,
) -> None:
    """Look at a folder of images, say what was found, ask on a terminal what is unclear, and write a run folder."""
    from alseg_cli.asking import asked_until_decided
    from stages.recipes.start import Wishes, parse_shares, start
    from stages.runtime.devices import choose_device

    wishes = Wishes(
        classes, masks, parse_shares(shares), recipe, profile, weights, rounds, budget, long_side, tile, seed
    )
    kind = choose_device(device).type
    asked_until_decided(wishes, lambda decided: start(images, run, decided, kind, dry_run))


@app.command("next")
def next_(
    run: Annotated[Path, typer.Argument(help="Run folder written by `init`.", metavar="RUN")] = Path("run"),
    page: Annotated[
        bool, typer.Option("--page", help="Serve the page where people answer, and go on after the answers.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0: any free port.")] = 0,
) -> None:
    """Do what comes next in a run; stop where people have to answer."""
    from typer.main import get_command

    from alseg_cli.following import run_next

    program = get_command(app)
    run_next(run, page, port, lambda words: program.main(words, standalone_mode=False))


@app.command("status")
def status(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Run folder written by `init`, folders of planned runs, or of several. [default: run]",
            metavar="RUN...",
            show_default=False,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    targets: Annotated[
        bool, typer.Option("--targets", help="List each file of a run: done, running, failed or waiting.")
    ] = False,
) -> None:
    """Show the rounds of a run, what they cost, and what comes next; of several runs which are done, running or failed.

    One folder written by `init` is shown round by round, unless --targets is passed.
    """
    from stages.recipes.standing import show_status
    from stages.settings.toml_files import RUN_FILE

    folders = runs or [Path("run")]
    if len(folders) == 1 and not targets and ((folders[0] / RUN_FILE).is_file() or not runs):
        show_status(folders[0], json)
    else:
        from stages.recipes.watching import show_targets

        show_targets(folders, targets, json)


@app.command("du")
def du(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, or of several runs.", metavar="RUN...")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show how many bytes the files of runs take, and what `prune` would free."""
    from stages.recipes.storage import show_storage

    show_storage(runs, json)


@app.command("prune")
def prune(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, or of several runs.", metavar="RUN...")],
    keep: Annotated[
        Literal["last", "best", "models"],
        typer.Option(help="Models to keep: of the last round, of the round best on validation, or of all rounds."),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed and remove nothing.")] = False,
) -> None:
    """Remove scores, pseudo-labels, resume files and models that no stage of a run reads any more.

    Their headers stay, so nothing becomes stale.
    """
    from stages.recipes.pruning import prune_runs

    prune_runs(runs, keep, dry_run)


@app.command("plan")
def plan(
    recipes: Annotated[list[str], typer.Argument(help="Shipped recipes by name, or TOML files.", metavar="RECIPE...")],
    dataset: Annotated[Path, typer.Argument(help="Dataset written by `prepare`.", metavar="DATASET")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write here instead of printing.")] = None,
    run: Annotated[
        Path | None,
        typer.Option(help="Folder of the run, or of several, in folders RECIPE-SEED. [default: runs/RECIPE, runs]"),
    ] = None,
    profile: Annotated[
        list[str] | None, typer.Option(help="Profile to take settings from (name or TOML file); may be repeated.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="A run of each recipe per seed.", metavar="0,1,...")] = None,
    full: Annotated[
        str | None, typer.Option(help="Recipe of one run that all others are compared with.", metavar="RECIPE")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds. [default: the recipe's]")] = None,
    plugin: Annotated[list[Path] | None, typer.Option(help="Load a Python file that registers parts.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Override a setting of a stage or of one step, such as train.epochs=12, in each recipe that has it.",
            metavar="STAGE.NAME=VALUE",
        ),
    ] = None,
    people: Annotated[
        Way | None,
        typer.Option(
            help="People answer: on the page that make serves, or in files that they fill in and bring back. [default: "
            "answers are simulated]",
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Ledger that replaces the answers of round 0.", metavar="LEDGER")
    ] = None,
    format_: Annotated[
        Literal["make", "snakemake"],
        typer.Option("--format", help="A Makefile, or a Snakefile for the schedulers that Snakemake knows."),
    ] = "make",
    shards: Annotated[
        str | None,
        typer.Option(
            help="Divide each stage that takes --shard among N processes, or these stages alone.",
            metavar="N|STAGE=N,...",
        ),
    ] = None,
) -> None:
    """Write runs as a Makefile: one rule per stage and round, real files as targets, nothing made twice."""
    from stages.recipes.experiment import Wanted, write_plan
    from stages.recipes.sharding import parse_shards
    from stages.runtime.parts import load_plugin

    for file in plugin or []:
        load_plugin(file)
    wanted = Wanted(
        recipes, dataset, run, profile or (None,), rounds, set_ or [], plugin or [], people, labels,
        None if seeds is None else parse_seeds(seeds), full, format_,
        {} if shards is None else parse_shards(shards),
    )  # fmt: skip
    write_plan(wanted, output)


def parse_seeds(text: str) -> list[int]:
    """The seeds in ``text``, such as 0,1,2; BadInput if there is anything else, or one twice."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdecimal() for word in words) or len(set(map(int, words))) < len(words):
        raise BadInput(f"--seeds must be different whole numbers, such as 0,1,2, not {text!r}.")
    return [int(word) for word in words]


@app.command("reproduce")
def reproduce(
    table: Annotated[
        str | None, typer.Argument(help="Name of a shipped table or path of a TOML file. [default: list them]")
    ] = None,
    dataset: Annotated[
        Path | None,
        typer.Argument(help="Dataset written by `prepare`, to plan the runs. [default: show the table]"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Makefile of all runs. [default: RUNS/Makefile]")
    ] = None,
    runs: Annotated[Path | None, typer.Option(help="Folder of the runs. [default: runs/TABLE]")] = None,
    row: Annotated[list[str] | None, typer.Option(help="Plan this row only; may be repeated.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Runs per row. [default: as published]")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Override a setting in all rows, such as train.weights=FILE.", metavar="STAGE.NAME=VALUE"
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write what was measured in the runs as JSON.")] = None,
) -> None:
    """Plan the runs of a published table, or show its numbers beside what was measured."""
    if table is None:
        from stages.recipes.measured_tables import list_tables

        list_tables()
    elif dataset is None:
        from stages.recipes.measured_tables import show_table

        show_table(table, runs, json)
    else:
        from stages.recipes.reproduce import write_table

        write_table(table, dataset, output, runs, row or [], seeds, set_ or [])


@app.command("compare")
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of runs; runs that differ only by seed are averaged.", metavar="RUN..."),
    ],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Plot of mIoU over cost (PNG).")] = None,
    full: Full = None,
    checkpoint: Epoch = "last",
    evaluation: Which = "evaluation",
    cost: Annotated[str, typer.Option(help="Cost to compare at.", metavar="clicks|seconds|answers")] = "clicks",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV: a line per recipe and cost.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON: also areas, verdict and single runs.")] = False,
    leaderboard: Annotated[
        Path | None,
        typer.Option(
            help="Add the runs, in folders RECIPE-SEED, to this JSON file, and compare each recipe with its random "
            "partner; a page and a picture are written beside it.",
            metavar="FILE.json",
        ),
    ] = None,
) -> None:
    """Print runs side by side at equal cost, say which recipe is ahead, and plot their curves."""
    from stages.reporting.comparison import compare_runs

    if as_csv and json:
        raise BadInput("--csv and --json are mutually exclusive.")
    if leaderboard is not None:
        from stages.recipes.leaderboard import update_leaderboard

        if as_csv or json or output is not None or full is not None:
            raise BadInput("--leaderboard is mutually exclusive with --csv, --json, --full and -o.")
        update_leaderboard(runs, leaderboard, checkpoint, evaluation)
        return
    compare_runs(runs, output, full, checkpoint, evaluation, cost, "csv" if as_csv else "json" if json else "table")


@app.command("report")
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of runs; runs that differ only by seed are averaged.", metavar="RUN..."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="HTML file.")],
    full: Full = None,
    checkpoint: Epoch = "last",
    images: Annotated[int, typer.Option(min=0, help="Images to show of the queries and of the held-out split.")] = 3,
    evaluation: Which = "evaluation",
) -> None:
    """Write runs as one HTML page that needs no network: curves, classes, cost, overlays, provenance."""
    from stages.reporting.report.command import write_report

    write_report(runs, output, full, checkpoint, images, evaluation)


@app.command("recipes")
def recipes() -> None:
    """List the shipped recipes."""
    from stages.recipes.listing import list_recipes

    list_recipes()


@app.command("profiles")
def profiles() -> None:
    """List the shipped profiles."""
    from stages.recipes.listing import list_profiles

    list_profiles()


@app.command("datasets")
def datasets() -> None:
    """List the shipped datasets."""
    from stages.recipes.listing import list_datasets

    list_datasets()


def main() -> None:
    """The `alseg` program."""
    # OpenMP threads that spin while waiting slow down training severalfold if the CPU is shared (docs/benchmarks.md).
    # libgomp reads this when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    open_standard_streams()
    try:
        with exit_codes(sys.argv[1:]):
            app()
    finally:
        end_quietly()
