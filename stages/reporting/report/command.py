"""`alseg report`: collects runs, draws overlays and curves, and publishes the page."""

import shlex
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from stages.artifacts.header import now
from stages.artifacts.request import extra_destination, publish_extra
from stages.reporting.comparison import read_run
from stages.reporting.report.collect import Run, collect_runs, require_one_split
from stages.reporting.report.extent import Extent
from stages.reporting.report.gallery import Gallery, draw_galleries
from stages.reporting.report.groups import group_runs
from stages.reporting.report.page import Report, page_text
from stages.reporting.report.provenance import current_digest
from stages.runtime.console import say


def write_report(
    folders: list[Path], output: Path, full: Path | None, checkpoint: str, images: int, evaluation: str
) -> None:
    """Publishes the page as ``output`` and prints what is missing from it."""
    extra_destination(output)  # refused before all the work
    current_digest.cache_clear()
    runs = collect_runs(folders, checkpoint, evaluation)
    reached = None if full is None else read_run(full, checkpoint)[-1]
    require_one_split([*(entry for run in runs for entry in run.measured), *([] if reached is None else [reached])])
    groups = group_runs(runs)
    shown = [group.runs[0] for group in groups]  # other seeds would look alike
    extent = Extent.of(len(shown), images)
    report = Report(
        created=now(),
        version=own_version(),
        command=command_line(folders, output, full, checkpoint, images, evaluation),
        checkpoint=checkpoint,
        runs=runs,
        groups=groups,
        full=reached,
        galleries=galleries(shown[: extent.runs], runs, extent, checkpoint) if images else {},
        left_out=extent.left_out(len(shown), images) if images else "",
    )
    content = page_text(report).encode(errors="backslashreplace")  # names of files that are not UTF-8
    for run in runs:
        for note in [*run.notes, *(report.galleries[run.name].notes if run.name in report.galleries else [])]:
            say(f"{run.name}: {note}")
    if report.left_out:
        say(report.left_out)
    publish_extra(output, content)
    drawn = sum(len(gallery.pictures) for gallery in report.galleries.values())
    size = f"{len(content) / 1e6:.1f} MB" if len(content) >= 1e5 else f"{len(content) / 1e3:.0f} kB"
    say(f"wrote {output}: {len(runs)} runs, {drawn} overlays, {size}")


def galleries(shown: list[Run], runs: list[Run], extent: Extent, checkpoint: str) -> dict[str, Gallery]:
    """Galleries of the runs ``shown``, keyed by run name."""
    return dict(zip([run.name for run in shown], draw_galleries(shown, runs, extent, checkpoint), strict=True))


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
