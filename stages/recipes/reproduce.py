"""The runs of a published table as a Makefile."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.recipes.experiment import Planned, Wanted, joined, planned_run, write_made
from stages.recipes.makefile import render
from stages.recipes.plan import Run, quoted
from stages.recipes.rules import Rule
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
    last = last_rules(table, name, runs, [target for run in whole for target in run.ends])
    made = Planned(render(whole, dataset, where, last, f"{table.title}: {len(runs)} runs"), whole, list(notes))
    write_made(made, output or where / "Makefile")


def plan_row(
    table: PublishedTable, row: Row, seed: int, dataset: Path, overrides: Sequence[str], notes: dict[str, None]
) -> Run:
    """The run of a row; what the user should know of it is added to ``notes``."""
    rounds = table.rounds_of(row, table.plan(row, overrides))
    wanted = Wanted([row.recipe], dataset, rounds=rounds, overrides=[*row.set, *overrides])
    return planned_run(wanted, row.recipe, table.profile, seed, run_name(row, seed), notes)


def last_rules(table: PublishedTable, name: str, runs: Sequence[TableRun], needs: list[str]) -> list[Rule]:
    """Curves and reports, each of rows with the same full supervision, and what was measured beside the published."""
    full = {run.row.full for run in runs} - {""}
    groups: dict[str, list[TableRun]] = {}
    for run in runs:
        if run.row.name not in full:
            groups.setdefault(run.row.full, []).append(run)
    rules = []
    for bound, members in groups.items():
        with_bound = [["--full", f"$(RUN)/{run.name}"] for run in runs if run.row.name == bound and run.seed == 0]
        ending = "-".join(["", table.row(bound).folder] if bound else [])
        steps = dict.fromkeys(run.row.evaluation for run in members)
        evaluation = next(iter(steps)) if len(steps) == 1 else "evaluation"
        options = [*with_bound[:1], ["--checkpoint", table.checkpoint]]
        options += [["--evaluation", quoted(evaluation)]] if evaluation != "evaluation" else []
        folders = [[f"$(RUN)/{run.name}"] for run in members]
        for file, words in ((f"curve{ending}.png", ["compare"]), (f"report{ending}.html", ["report", "--images", "0"])):
            rules.append(Rule(f"$(RUN)/{file}", needs, [words, *folders, *options, ["-o", "$@"]]))
    shown = ["reproduce", quoted(name), "--runs", "$(RUN)", "--json", "$@"]
    return [*rules, Rule("$(RUN)/measured.json", needs, [shown])]
