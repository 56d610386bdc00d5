"""Published tables beside what was measured in their runs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.table import Table

from stages.artifacts.model import read_model_header
from stages.artifacts.request import publish_extra
from stages.recipes.reproduce import run_name, runs_folder
from stages.recipes.tables import PublishedTable, Row, load_table, table_names
from stages.reporting.measured import measured_in
from stages.runtime.console import print_table, say
from stages.runtime.errors import BadInput

Measurements = Mapping[str, Sequence[Mapping[str, Any] | None]]
"""Row name -> what was measured after each of its labels: ``mean`` and ``std`` in %, ``runs``."""


def list_tables() -> None:
    """Prints name, title, profile and rows of each shipped table."""
    listed = Table("table", "title", "profile", "rows", box=None, pad_edge=False)
    for table in map(load_table, table_names()):
        listed.add_row(table.name, table.title, table.profile, str(len(table.rows)))
    print_table(listed)


def show_table(name: str, folder: Path | None, output: Path | None) -> None:
    """Prints the rows of a table, published and measured in the runs below ``folder``; writes the latter as JSON."""
    table = load_table(name)
    measured = measure_table(table, runs_folder(table, folder))
    title = f"{table.title}: mIoU (%), {table.checkpoint} epoch"
    listed = Table("row", "recipe", table.cost, "published", "ours", title=title, title_justify="left")
    for row in table.rows:
        for place, (label, published) in enumerate(zip(table.labels_of(row), table.published(row), strict=True)):
            own = measured["rows"].get(row.name, [None] * (place + 1))[place]
            found = "" if own is None else f"{spread_text(own['mean'], own['std'])} ({own['runs']})"
            names = (row.name, row.recipe) if place == 0 else ("", "")
            listed.add_row(*names, label, spread_text(*published), found)
    print_table(listed)
    print(f"Prepare with: {table.prepare}")
    if table.note:
        print(table.note)
    if output is not None:
        if not measured["rows"]:
            raise BadInput(f"Nothing is measured below {runs_folder(table, folder)}. Run its Makefile first.")
        publish_extra(output, (json.dumps(measured, indent=1, sort_keys=True) + "\n").encode())
        say(f"wrote {output}")


def spread_text(mean: float | None, std: float | None) -> str:
    """``50.8 ± 0.2``; "" for nothing."""
    if mean is None:
        return ""
    return f"{mean:.1f}" + ("" if std is None else f" ± {std:.1f}")


def measure_table(table: PublishedTable, folder: Path) -> dict[str, Any]:
    """``rows`` (see `Measurements`) below ``folder``, and the ``weights`` and ``devices`` of its trainings."""
    rows: dict[str, Any] = {}
    weights: set[str] = set()
    devices: set[str] = set()
    for row in table.rows:
        values = values_of(table, row, folder)
        if any(values):
            rows[row.name] = [
                {"mean": fmean(found), "std": stdev(found) if len(found) > 1 else None, "runs": len(found)}
                if found
                else None
                for found in values
            ]
            for path in sorted(folder.glob(f"{row.folder}-*/**/*.safetensors")):
                header = read_model_header(path)
                weights.add(str(header.counts.get("initial_weights", "")))
                devices.add(str(header.versions.get("device", "")))
    found = {"rows": rows, "weights": sorted(weights - {""}), "devices": sorted(devices - {""})}
    return found | {"table": table.name, "checkpoint": table.checkpoint}


def values_of(table: PublishedTable, row: Row, folder: Path) -> list[list[float]]:
    """mIoU in % after each label of ``row``, one per run that has reached it."""
    values: list[list[float]] = [[] for _ in table.labels_of(row)]
    number = 0
    while (run := folder / run_name(row, number)).is_dir() or number < table.seeds_of(row):
        found, faults = measured_in(run, table.checkpoint, row.evaluation)
        if faults:
            raise BadInput([fault for several in faults.values() for fault in several])
        for entry in found:
            place = entry.round or 0
            if place < len(values):
                values[place].append(entry.miou)
        number += 1
    return values
