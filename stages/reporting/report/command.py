"""`alseg report`: collects runs, draws overlays and curves, and publishes the page."""

import shlex
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from stages.artifacts.header import now
from stages.artifacts.request import extra_destination, publish_extra
from stages.reporting.report.collect import Run, collect_run, collect_runs, require_one_split
from stages.reporting.report.gallery import Gallery, draw_galleries
from stages.reporting.report.groups import Group, group_runs
from stages.reporting.report.page import Report, page_text
from stages.reporting.report.provenance import current_digest
from stages.runtime.console import say
from stages.runtime.errors import BadInput


def write_report(
    folders: list[Path], output: Path, full: Path | None, checkpoint: str, images: int, evaluation: str
) -> None:
    """Publishes the page as ``output`` and prints what is missing from it."""
    extra_destination(output)  # refused before all the work
    current_digest.cache_clear()
    runs = collect_runs(folders, checkpoint, evaluation)
    reached = None if full is None else full_supervision(full, checkpoint)
    require_one_split([*runs, *([] if reached is None else [reached])])
    groups = group_runs(runs)
    report = Report(
        created=now(),
        version=own_version(),
        command=command_line(folders, output, full, checkpoint, images, evaluation),
        checkpoint=checkpoint,
        runs=runs,
        groups=groups,
        full=None if reached is None else reached.measured[-1],
        galleries=galleries(groups, runs, images, checkpoint),
    )
    content = page_text(report).encode()
    for run in runs:
        for note in [*run.notes, *(report.galleries[run.name].notes if run.name in report.galleries else [])]:
            say(f"{run.name}: {note}")
    publish_extra(output, content)
    drawn = sum(len(gallery.pictures) for gallery in report.galleries.values())
    size = f"{len(content) / 1e6:.1f} MB" if len(content) >= 1e5 else f"{len(content) / 1e3:.0f} kB"
    say(f"wrote {output}: {len(runs)} runs, {drawn} overlays, {size}")


def full_supervision(folder: Path, checkpoint: str) -> Run:
    """The run on full masks; BadInput if it was not evaluated."""
    found = collect_run(folder, folder.resolve().name, checkpoint, "evaluation")
    if not found.measured:
        raise BadInput(f"There is no evaluation.json with {checkpoint} weights below {folder}. Run its rounds first.")
    return found


def galleries(groups: list[Group], runs: list[Run], images: int, checkpoint: str) -> dict[str, Gallery]:
    """Galleries of the first run of each group; other seeds would look alike."""
    if images < 1:
        return {}
    shown = [group.runs[0] for group in groups]
    return dict(zip([run.name for run in shown], draw_galleries(shown, runs, images, checkpoint), strict=True))


def own_version() -> str:
    try:
        return version("alseg")
    except PackageNotFoundError:
        return "of a checkout"


def command_line(
    folders: list[Path], output: Path, full: Path | None, checkpoint: str, images: int, evaluation: str
) -> str:
    """The command that writes this page."""
    words = ["alseg", "report", *map(str, folders), "-o", str(output)]
    words += [] if full is None else ["--full", str(full)]
    words += ["--checkpoint", checkpoint, "--images", str(images)]
    words += [] if evaluation == "evaluation" else ["--evaluation", evaluation]
    return shlex.join(words)
