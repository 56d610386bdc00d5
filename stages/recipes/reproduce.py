"""The runs of a published table as a Makefile."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.recipes.experiment import Planned, Wanted, joined, planned_run, write_made
from stages.recipes.makefile import render, target_lines
from stages.recipes.plan import Run, quoted
from stages.recipes.tables import PublishedTable, Row, load_table
from stages.runtime.errors import BadInput


@dataclass(frozen=True)
class TableRun:
    """A run of a row: its seed, and its plan, whose name is that of its folder."""

    row: Row
    seed: int
    planned: Run

    @property
    def name(self) -> str:
        return self.planned.name


def runs_folder(table: PublishedTable, folder: Path | None) -> Path:
    """The folder of the runs of ``table``: ``folder``, or runs/TABLE."""
    return folder or Path("runs") / table.name


def run_name(row: Row, seed: int) -> str:
    return f"{row.folder}-{seed}"


def write_table(
    name: str,
    dataset: Path,
    output: Path | None,
    folder: Path | None,
    rows: Sequence[str] = (),
    seeds: int | None = None,
    overrides: Sequence[str] = (),
) -> None:
    """Writes a Makefile of all runs of a table (of ``rows`` only, if given), in which nothing is made twice.

    ``overrides`` are settings for all rows. Raises BadInput with all faults of table, overrides and dataset.
    """
    table = load_table(name)
    where = runs_folder(table, folder)
    chosen = [table.row(row) for row in rows] or table.rows
    runs: list[TableRun] = []
    faults: list[str] = []
    notes: dict[str, None] = {}
    for row in chosen:
        for seed in range(seeds or table.seeds_of(row)):
            try:
                runs.append(TableRun(row, seed, plan_row(table, row, seed, dataset, overrides, notes)))
            except BadInput as error:
                faults += [fault for fault in error.faults if fault not in faults]
    if faults:
        raise BadInput(faults)
    whole = joined([run.planned for run in runs])
    last = last_lines(table, name, runs, where)
    made = Planned(render(whole, dataset, where, last, f"{table.title}: {len(runs)} runs"), whole, list(notes))
    write_made(made, output or where / "Makefile")


def plan_row(
    table: PublishedTable, row: Row, seed: int, dataset: Path, overrides: Sequence[str], notes: dict[str, None]
) -> Run:
    """The run of a row; what the user should know of it is added to ``notes``."""
    rounds = table.rounds_of(row, table.plan(row, overrides))
    wanted = Wanted([row.recipe], dataset, rounds=rounds, overrides=[*row.set, *overrides])
    return planned_run(wanted, row.recipe, table.profile, seed, run_name(row, seed), notes)


def last_lines(table: PublishedTable, name: str, runs: Sequence[TableRun], folder: Path) -> list[str]:
    """`all`, which runs all and shows what they measured, and `measured`, which only shows it."""
    shown = ["reproduce", name, "--runs", str(folder), "--json", str(folder / "measured.json")]
    show = f"\t$(ALSEG) {' '.join(map(quoted, shown))}"
    lines = [".PHONY: measured", *target_lines("all", [run.name for run in runs])]
    lines += [f"\t$(ALSEG) {' '.join(words)}" for words in report_commands(table, runs, folder)]
    return [*lines, show, "", "# Shows the published numbers beside those measured so far", "measured:", show]


def report_commands(table: PublishedTable, runs: Sequence[TableRun], folder: Path) -> list[list[str]]:
    """`compare` and `report`, for the rows with the same full supervision each."""
    full = {run.row.full for run in runs} - {""}
    groups: dict[str, list[TableRun]] = {}
    for run in runs:
        if run.row.name not in full:
            groups.setdefault(run.row.full, []).append(run)
    commands = []
    for bound, members in groups.items():
        with_bound = [["--full", str(folder / run.name)] for run in runs if run.row.name == bound and run.seed == 0]
        ending = "-".join(["", table.row(bound).folder] if bound else [])
        options = [*(with_bound[0] if with_bound else []), "--checkpoint", table.checkpoint]
        every = [str(folder / run.name) for run in members]
        steps = dict.fromkeys(run.row.evaluation for run in members)
        evaluation = next(iter(steps)) if len(steps) == 1 else "evaluation"
        options += ["--evaluation", evaluation] if evaluation != "evaluation" else []
        commands.append(["compare", *every, *options, "-o", str(folder / f"curve{ending}.png")])
        commands.append(["report", *every, *options, "--images", "0", "-o", str(folder / f"report{ending}.html")])
    return [[quoted(word) for word in words] for words in commands]
