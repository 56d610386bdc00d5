"""`alseg compare`: runs side by side at equal cost."""

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from stages.artifacts.request import publish_extra
from stages.artifacts.rounds import ROUND_FOLDERS
from stages.reporting.equal_cost import Curve
from stages.reporting.measured import Measured, measured_in
from stages.reporting.report.collect import collect_runs, require_one_split
from stages.reporting.report.groups import Group, Spread, group_runs
from stages.reporting.verdict import AXES, Verdict, areas, judge, mean_curve
from stages.runtime.console import print_table, say
from stages.runtime.errors import BadInput

ON_ANSWERS = "agreement"  # what plans call an evaluation on answers


@dataclass(frozen=True)
class Row:
    """The groups at one cost: their mIoU in %, None where they were not measured up to it or only from it on.

    ``round`` and ``asked`` (answers per queried image) are None if the groups measured at this cost differ in them.
    """

    cost: float
    round: int | None
    asked: float | None
    miou: list[Spread | None]
    measured: list[bool]


def compare_runs(
    runs: list[Path],
    output: Path | None,
    full: Path | None,
    checkpoint: str,
    evaluation: str = "evaluation",
    cost: str = "clicks",
    form: str = "table",
) -> None:
    """Prints mIoU of the groups of ``runs`` at equal ``cost``, areas and the verdict; draws the curves to ``output``.

    ``form`` is table, csv or json. Runs that differ only by seed are one group.
    """
    if cost not in AXES:
        raise BadInput(f"--cost must be {', '.join(AXES[:-1])} or {AXES[-1]}, not {cost!r}.")
    found = collect_runs(runs, checkpoint, evaluation)
    for run in found:
        require_usable(run.measured, run.damaged, run.folder, checkpoint, evaluation)
    reached = None if full is None else read_run(full, checkpoint)[-1]
    require_one_split([*(entry for run in found for entry in run.measured), *([] if reached is None else [reached])])
    groups = group_runs(found)
    rows = rows_at_equal_cost(groups, cost)
    verdict = judge(groups, reached, cost)
    title = f"mIoU (%) on {found[0].measured[0].split}, {checkpoint} epoch"
    match form:
        case "csv":
            print_csv(groups, rows, cost)
        case "json":
            print(json.dumps(as_json(groups, rows, reached, verdict, cost) | {"title": title}, indent=1))
        case _:
            print_comparison(groups, rows, reached, verdict, cost, title)
    if output is not None:
        from stages.reporting.pictures.curves import run_curves

        line = None if reached is None else ("full supervision", reached.miou)
        publish_extra(output, run_curves({each.title: mean_curve(each, cost) for each in groups}, line, cost, title))
        if form == "table":
            say(f"wrote {output}")


def read_run(folder: Path, checkpoint: str, evaluation: str = "evaluation") -> list[Measured]:
    """The evaluations of a run, sorted by clicks; BadInput without any, and for a damaged one."""
    entries, faults = measured_in(folder, checkpoint, evaluation)
    require_usable(entries, faults, folder, checkpoint, evaluation)
    return entries


def require_usable(
    entries: Sequence[Measured], faults: dict[Path, list[str]], folder: Path, checkpoint: str, evaluation: str
) -> None:
    """BadInput for a run with a damaged evaluation, or without any."""
    if faults:
        raise BadInput([fault for found in faults.values() for fault in found])
    if entries:
        return
    if other := next(iter(sorted(folder.glob(f"{ROUND_FOLDERS}/*{ON_ANSWERS}.h5"))), None):
        raise BadInput(
            f"{folder} was not evaluated on masks, because its dataset has none, so it cannot be compared by mIoU. Run "
            f"`alseg status {folder}` for its agreement with new answers, or pass --evaluation {other.stem}, which "
            "compares by that."
        )
    raise BadInput(f"There is no {evaluation}.h5 with {checkpoint} weights below {folder}. Run its rounds first.")


def rows_at_equal_cost(groups: Sequence[Group], cost: str) -> list[Row]:
    """A row per cost at which a group was measured; the others are interpolated there."""
    curves = [mean_curve(group, cost) for group in groups]
    points = [{float(getattr(point, cost)): point for point in group.whole_points} for group in groups]
    rows = []
    for place in sorted(set().union(*points)):
        there = [own[place] for own in points if place in own]
        rounds, asked = {point.round for point in there}, {point.asked for point in there}
        rows.append(
            Row(
                place,
                rounds.pop() if len(rounds) == 1 else None,
                asked.pop() if len(asked) == 1 else None,
                [spread_at(*each, place) for each in curves],
                [place in own for own in points],
            )
        )
    return rows


def spread_at(mean: Curve, deviation: Curve | None, cost: float) -> Spread | None:
    """The mean and the deviation at a cost; None beyond the curve."""
    value = float(mean.at([cost])[0])
    if value != value:
        return None
    return Spread(value, None if deviation is None else float(deviation.at([cost])[0]))


def print_comparison(
    groups: Sequence[Group], rows: Sequence[Row], full: Measured | None, verdict: Verdict, cost: str, title: str
) -> None:
    print(title)
    notes: list[str] = []
    table = Table("round", "answers/image", cost, *(group.title for group in groups), box=None, pad_edge=False)
    for row in rows:
        cells = [
            "" if value is None else ("" if own else "~") + spread_text(value)
            for value, own in zip(row.miou, row.measured, strict=True)
        ]
        known = ["" if value is None else f"{value:.0f}" for value in (row.round, row.asked, row.cost)]
        table.add_row(*known, *cells)
    if full is not None:
        table.add_row("full", "masks", f"{getattr(full, cost):.0f}", *[f"{full.miou:.1f}"] * len(groups))
    found = areas(groups, cost)
    if found is not None and found[0][0] < found[0][1]:
        (low, high), heights = found
        table.add_row("area", "", f"{low:.0f} to {high:.0f}", *(spread_text(heights[each.name]) for each in groups))
        notes.append(f"area: integral of mIoU over {cost} from {low:.0f} to {high:.0f}, divided by {high - low:.0f}.")
    print_table(table)
    if any(value is not None and not own for row in rows for value, own in zip(row.miou, row.measured, strict=True)):
        notes.append("~ interpolated between two rounds.")
    for line in [*notes, "", *verdict.lines]:
        print(line)


def spread_text(value: Spread) -> str:
    return f"{value.mean:.1f}" + ("" if value.deviation is None else f" ± {value.deviation:.1f}")


def print_csv(groups: Sequence[Group], rows: Sequence[Row], cost: str) -> None:
    """A line per group and cost."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["recipe", "runs", cost, "miou", "deviation", "interpolated"])
    for place, group in enumerate(groups):
        for row in rows:
            value = row.miou[place]
            if value is not None:
                deviation = "" if value.deviation is None else f"{value.deviation:.4f}"
                numbers = [f"{row.cost:g}", f"{value.mean:.4f}", deviation, int(not row.measured[place])]
                writer.writerow([group.name, len(group.runs), *numbers])


def as_json(
    groups: Sequence[Group], rows: Sequence[Row], full: Measured | None, verdict: Verdict, cost: str
) -> dict[str, Any]:
    """The comparison as JSON values; ``area`` is the mean mIoU from one cost to another that all runs cover."""
    found = areas(groups, cost)
    shared = None if found is None else {"from": found[0][0], "to": found[0][1]}
    listed = [
        {
            "name": group.name,
            "runs": [str(run.folder) for run in group.runs],
            "seeds": [run.seeds for run in group.runs],
            "area": None if found is None else asdict(found[1][group.name]),
            "curve": [
                {cost: row.cost, "interpolated": not row.measured[place], **asdict(value)}
                for row in rows
                if (value := row.miou[place]) is not None
            ],
            "measured": [[asdict(replace(entry, counts=None)) for entry in run.measured] for run in group.runs],
        }
        for place, group in enumerate(groups)
    ]
    return {
        "cost": cost,
        "shared": shared,
        "full": None if full is None else full.miou,
        "recipes": listed,
        "verdict": asdict(verdict),
    }
