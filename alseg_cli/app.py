"""The commands. Each imports its stage only when it runs, so that `alseg --help` answers at once."""

import os
from pathlib import Path
from typing import Annotated

import typer

from alseg_cli.exits import exit_codes
from alseg_cli.options import stage_command
from stages.settings.annotate import PeopleSettings
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.cluster_regions import ClusterSettings
from stages.settings.evaluate import EvaluateSettings
from stages.settings.extract_superpixels import ExtractSettings
from stages.settings.import_answers import ImportSettings
from stages.settings.prepare import PrepareSettings
from stages.settings.pseudo_label import PseudoLabelSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings
from stages.settings.train import TrainSettings

app = typer.Typer(
    name="alseg",
    help="Active learning for semantic segmentation: choose what to label next, take the answers, train, measure.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DatasetFile = Annotated[Path, typer.Argument(help="A dataset written by `prepare`.", metavar="DATASET")]
Output = Annotated[Path, typer.Option("-o", "--output", help="Where the artifact goes.")]
Regions = Annotated[Path | None, typer.Option("--superpixels", help="The regions that scores and queries are of.")]
Ledger = Annotated[Path | None, typer.Option("--annotations", help="The ledger so far (none in round 0).")]


@stage_command(app, "prepare")
def prepare(
    description: Annotated[str, typer.Argument(help="A shipped dataset (camvid, scenes, ...) or your own TOML file.")],
    output: Output,
    settings: PrepareSettings,
    root: Annotated[Path | None, typer.Option(help="The folder the dataset was unpacked in.")] = None,
    force: bool = False,
) -> None:
    """Bring a dataset into one HDF5 file, after checking all of it."""
    from stages.commands import prepare as stage

    stage.run(description, root, output, settings, force)


@stage_command(app, "extract-superpixels")
def extract_superpixels(
    dataset: DatasetFile,
    output: Output,
    settings: ExtractSettings,
    superpixels: Annotated[Path | None, typer.Option(help="adaptive: the base regions to merge.")] = None,
    model: Annotated[Path | None, typer.Option(help="adaptive: the model whose predictions merge them.")] = None,
    force: bool = False,
) -> None:
    """Cut every image into regions, or merge regions where a model predicts alike."""
    from stages.commands import extract_superpixels as stage

    stage.run(dataset, output, settings, superpixels, model, force)


@stage_command(app, "cluster-regions")
def cluster_regions(
    dataset: DatasetFile,
    superpixels: Annotated[Path, typer.Argument(help="The regions to put into clusters.", metavar="SUPERPIXELS")],
    output: Output,
    settings: ClusterSettings,
    features: Annotated[
        Path | None, typer.Option(help="Other clusters of the same regions: take the features they were made of.")
    ] = None,
    force: bool = False,
) -> None:
    """Put every region into one of a few clusters of what it looks like to a pretrained network."""
    from stages.commands import cluster_regions as stage

    stage.run(dataset, superpixels, output, settings, features, force)


@stage_command(app, "train")
def train(
    dataset: DatasetFile,
    labels: Annotated[Path, typer.Argument(help="Annotations or pseudo-labels to learn from.", metavar="LABELS")],
    output: Output,
    settings: TrainSettings,
    model: Annotated[
        Path | None, typer.Option(help="Start from this model; support heads are trained beside it.")
    ] = None,
    force: bool = False,
) -> None:
    """Train a network on annotations or pseudo-labels; stops and resumes without loss."""
    from stages.commands import train as stage

    stage.run(dataset, labels, output, settings, model, force)


@stage_command(app, "score")
def score(
    dataset: DatasetFile,
    output: Output,
    settings: ScoreSettings,
    model: Annotated[Path | None, typer.Option(help="The model that scores (not needed for random).")] = None,
    superpixels: Regions = None,
    clusters: Annotated[Path | None, typer.Option(help="Clusters of the regions, to share a budget over.")] = None,
    annotations: Annotated[Path | None, typer.Option(help="Regions are scored without what this ledger asked.")] = None,
    force: bool = False,
) -> None:
    """Score every pixel, region or image of the pool: higher is asked sooner."""
    from stages.commands import score as stage

    stage.run(dataset, output, settings, model, superpixels, clusters, annotations, force)


@stage_command(app, "select")
def select(
    dataset: DatasetFile,
    scores: Annotated[Path, typer.Argument(help="The scores to choose by.", metavar="SCORES")],
    output: Output,
    settings: SelectSettings,
    annotations: Ledger = None,
    superpixels: Regions = None,
    force: bool = False,
) -> None:
    """Choose what to ask next, leaving out what was asked before."""
    from stages.commands import select as stage

    stage.run(dataset, scores, output, settings, annotations, superpixels, force)


@stage_command(app, "annotate-simulate")
def annotate_simulate(
    dataset: DatasetFile,
    queries: Annotated[Path, typer.Argument(help="The queries to answer.", metavar="QUERIES")],
    output: Output,
    settings: AnnotateSettings,
    annotations: Ledger = None,
    superpixels: Regions = None,
    force: bool = False,
) -> None:
    """Answer queries from the ground truth, as an annotator would, and count the cost."""
    from stages.commands import annotate_simulate as stage

    stage.run(dataset, queries, output, settings, annotations, superpixels, force)


@stage_command(app, "annotate")
def annotate(
    dataset: DatasetFile,
    queries: Annotated[Path, typer.Argument(help="The queries to answer.", metavar="QUERIES")],
    output: Output,
    settings: PeopleSettings,
    annotations: Ledger = None,
    superpixels: Regions = None,
    force: bool = False,
) -> None:
    """Let people answer queries in a browser, by keys: open the address that is printed.

    Every answer is saved at once; stop it as you like and go on with the same command. The ledger is written when all
    is answered, or when somebody presses Finish.
    """
    from stages.commands import annotate as stage

    stage.run(dataset, queries, output, settings, annotations, superpixels, force)


@app.command("export-queries")
def export_queries(
    dataset: DatasetFile,
    queries: Annotated[Path, typer.Argument(help="The queries to answer.", metavar="QUERIES")],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="What to write, by its ending: .csv, .json, .coco.json, or none for a folder of PNG; of images also "
            ".npy and .txt.",
        ),
    ],
    superpixels: Regions = None,
    annotations: Annotated[
        Path | None, typer.Option("--annotations", help="Fill in the answers that this ledger has.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", help="A folder; the asked images are written there too, as PNG.")
    ] = None,
) -> None:
    """Write queries for other tools: tables (.csv, .json), COCO masks (.coco.json), indexed PNG (a folder).

    In a table the column class takes a class name, void or skip, several classes with ; between them; shapes get the
    name of their class. .npy and .txt list the names of the asked images in rank order.
    """
    from stages.commands import export_queries as stage

    stage.run(dataset, queries, output, superpixels, annotations, images)


@stage_command(app, "import-answers")
def import_answers(
    dataset: DatasetFile,
    queries: Annotated[Path, typer.Argument(help="The queries that were exported.", metavar="QUERIES")],
    answers: Annotated[
        Path,
        typer.Argument(help="A table (.csv, .json), a COCO file, a PNG mask or a folder of them.", metavar="ANSWERS"),
    ],
    output: Output,
    settings: ImportSettings,
    annotations: Ledger = None,
    superpixels: Regions = None,
    force: bool = False,
) -> None:
    """Take answers given with other tools into the ledger; what is not answered stays open."""
    from stages.commands import import_answers as stage

    stage.run(dataset, queries, answers, output, settings, annotations, superpixels, force)


@stage_command(app, "pseudo-label")
def pseudo_label(
    dataset: DatasetFile,
    annotations: Annotated[Path, typer.Argument(help="The ledger with the answers.", metavar="ANNOTATIONS")],
    model: Annotated[Path, typer.Option(help="The model that judges the answers' pixels.")],
    output: Output,
    settings: PseudoLabelSettings,
    superpixels: Regions = None,
    force: bool = False,
) -> None:
    """Make dense labels of answers about regions with what a model predicts inside them."""
    from stages.commands import pseudo_label as stage

    stage.run(dataset, annotations, model, output, settings, superpixels, force)


@stage_command(app, "evaluate")
def evaluate(
    dataset: DatasetFile,
    models: Annotated[list[Path], typer.Argument(help="One model or several.", metavar="MODEL...")],
    output: Output,
    settings: EvaluateSettings,
    force: bool = False,
) -> None:
    """Measure models on a split: mIoU, IoU per class, accuracy, confusion."""
    from stages.commands import evaluate as stage

    stage.run(dataset, models, output, settings, force)


@app.command("inspect")
def inspect(
    file: Annotated[Path, typer.Argument(help="Any artifact.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    dataset: Annotated[
        Path | None,
        typer.Option(
            help="Its dataset, to measure it against the truth; with --png: where it is now, for a model any with the "
            "same classes."
        ),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(
            help="With --png: the image to draw; default: the first, for a model the first for validation, and of "
            "images scored, asked about or judged as a whole a sheet of many."
        ),
    ] = None,
    png: Annotated[
        Path | None, typer.Option(help="Draw what the artifact holds for one image, or what the model predicts.")
    ] = None,
) -> None:
    """Tell what an artifact is, how it came about and what it holds; draw it for an image, or many, with --png."""
    from stages.reporting import inspection

    inspection.run(file, json, dataset, image, png)


@app.command("verify")
def verify(
    files: Annotated[list[Path], typer.Argument(help="Any artifacts.", metavar="FILE...")],
) -> None:
    """Check artifacts: every checksum, the schema, and whether the inputs are still the recorded ones."""
    from stages.artifacts.verify import verify_files

    verify_files(files)


@app.command("plan")
def plan(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe or your own TOML file.")],
    dataset: Annotated[Path, typer.Argument(help="The dataset file the run works on.", metavar="DATASET")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write here instead of printing.")] = None,
    run: Annotated[Path | None, typer.Option(help="Folder of the run. [default: runs/RECIPE]")] = None,
    profile: Annotated[str | None, typer.Option(help="The recipe's profile for the dataset.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds; default: the profile's.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Override a setting, e.g. --set train.epochs=12; of one step by the step's name.",
            metavar="STAGE.NAME=VALUE",
        ),
    ] = None,
) -> None:
    """Write a whole run as a Makefile: one rule per stage and round, real files as targets."""
    from stages.recipes.plan import write_plan

    write_plan(recipe, dataset, output, run, profile, rounds, set_ or [])


@app.command("compare")
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs to compare.", metavar="RUN...")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Curve PNG: mIoU against clicks.")] = None,
    full: Annotated[Path | None, typer.Option(help="A run on full masks, drawn as the line to reach.")] = None,
    checkpoint: Annotated[str, typer.Option(help="Report the last or the best epoch.", metavar="last|best")] = "last",
    evaluation: Annotated[
        str, typer.Option(help="Which evaluation of a round, such as stage1-evaluation.")
    ] = "evaluation",
) -> None:
    """Print runs side by side, round by round, and draw their curves."""
    from stages.reporting.comparison import compare_runs

    compare_runs(runs, output, full, checkpoint, evaluation)


@app.command("report")
def report(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of runs; those that differ by seed alone are one.", metavar="RUN...")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The HTML file.")],
    full: Annotated[Path | None, typer.Option(help="A run on full masks: the line to reach.")] = None,
    checkpoint: Annotated[str, typer.Option(help="Report the last or the best epoch.", metavar="last|best")] = "last",
    images: Annotated[
        int, typer.Option(min=0, help="Images shown of the queries and of the held-out split; 0: no pictures.")
    ] = 3,
    evaluation: Annotated[
        str, typer.Option(help="Which evaluation of a round, such as stage1-evaluation.")
    ] = "evaluation",
) -> None:
    """Write runs as one HTML page without network: curves, classes, cost, pictures, and what came from what."""
    from stages.reporting.report.command import write_report

    write_report(runs, output, full, checkpoint, images, evaluation)


def main() -> None:
    """The `alseg` program."""
    # OpenMP threads that spin for long while they wait slow a training down severalfold as soon as the CPU is shared
    # (docs/benchmarks.md). libgomp reads this when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    with exit_codes():
        app()
