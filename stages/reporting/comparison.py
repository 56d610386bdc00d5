"""`alseg compare`: runs side by side, per round."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from stages.artifacts.request import publish_extra
from stages.reporting.measured import Measured, measured_in
from stages.runtime.console import say
from stages.runtime.errors import BadInput


def compare_runs(
    runs: list[Path], output: Path | None, full: Path | None, checkpoint: str, evaluation: str = "evaluation"
) -> None:
    """Prints a table (round, answers per image, clicks, mIoU per run) and draws mIoU over clicks."""
    found = {name: read_run(path, checkpoint, evaluation) for name, path in zip(run_names(runs), runs, strict=True)}
    reached = None if full is None else read_run(full, checkpoint)[-1]
    splits = {entry.split for entries in found.values() for entry in entries}
    if reached is not None:
        splits.add(reached.split)
    if len(splits) > 1:
        raise BadInput(
            f"The runs were evaluated on different splits ({', '.join(sorted(splits))}). Evaluate all on the "
            "same split."
        )
    sizes = {name: {entry.image_sizes for entry in entries} - {""} for name, entries in found.items()}
    if len(set().union(*sizes.values())) > 1:
        told = ", ".join(f"{name} {' and '.join(sorted(own)) or 'unknown'}" for name, own in sizes.items())
        say(f"note: the runs were evaluated at different sizes: {told}")
    title = f"mIoU (%) on {splits.pop()}, {checkpoint} epoch"
    table = Table("round", "answers/image", "clicks", *found, title=title, title_justify="left")
    for number in range(max(len(entries) for entries in found.values())):
        present = [entries[number] for entries in found.values() if number < len(entries)]
        first = present[0]
        same = all(entry.clicks == first.clicks for entry in present)
        cells = [
            f"{entries[number].miou:.1f}" + ("" if same else f" ({entries[number].clicks:.0f} clicks)")
            if number < len(entries)
            else ""
            for entries in found.values()
        ]
        asked = f"{first.asked:.0f}" if same and first.asked is not None else ""
        table.add_row(str(number), asked, f"{first.clicks:.0f}" if same else "", *cells)
    if reached is not None:
        table.add_row("full", "masks", f"{reached.clicks:.0f}", *[f"{reached.miou:.1f}"] * len(found))
    Console().print(table)
    if output is not None:
        from stages.reporting.pictures.curves import run_curves

        points = {name: [(entry.clicks, entry.miou) for entry in entries] for name, entries in found.items()}
        line = None if reached is None else ("full supervision", reached.miou)
        publish_extra(output, run_curves(points, line, "clicks", title))
        say(f"wrote {output}")


def run_names(runs: list[Path]) -> list[str]:
    """Folder names, prefixed with the parent folder if they are not unique."""
    names = [path.resolve().name for path in runs]
    if len(set(names)) == len(names):
        return names
    return [f"{path.resolve().parent.name}/{path.resolve().name}" for path in runs]


def read_run(folder: Path, checkpoint: str, evaluation: str = "evaluation") -> list[Measured]:
    """The evaluations of a run, sorted by clicks; BadInput without any, and for a damaged one."""
    entries, faults = measured_in(folder, checkpoint, evaluation)
    if faults:
        raise BadInput([fault for found in faults.values() for fault in found])
    if not entries:
        raise BadInput(f"There is no {evaluation}.h5 with {checkpoint} weights below {folder}. Run its rounds first.")
    return entries
