"""The runs of a published table as Makefiles: one per run, and one that runs them all."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.artifacts.request import publish_extra
from stages.recipes.makefile import Planned, make_path, plan_run
from stages.recipes.plan import quoted, shared_files, shared_steps
from stages.recipes.tables import PublishedTable, Row, load_table
from stages.runtime.console import say
from stages.runtime.errors import BadInput


@dataclass(frozen=True)
class TableRun:
    """One run of a row: its seed, its folder (the Makefile is beside it), and the folder that it shares with others.

    ``shared`` maps the files in that folder to their names in the run's Makefile; empty if nothing is made once.
    """

    row: Row
    seed: int
    folder: Path
    shared: Path | None
    makes: tuple[str, ...]

    @property
    def makefile(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.mk")

    @property
    def target(self) -> str:
        return self.folder.name


def runs_folder(table: PublishedTable, folder: Path | None) -> Path:
    """The folder of the runs of ``table``: ``folder``, or runs/TABLE."""
    return folder or Path("runs") / table.name


def run_folder(folder: Path, row: Row, seed: int) -> Path:
    return folder / f"{row.folder}-{seed}"


def write_table(
    name: str,
    dataset: Path,
    output: Path | None,
    folder: Path | None,
    rows: Sequence[str] = (),
    seeds: int | None = None,
    overrides: Sequence[str] = (),
) -> None:
    """Writes a Makefile for each run of a table (of ``rows`` only, if given) and one that runs them all.

    ``overrides`` are settings for all rows. What is made once for all rounds, such as superpixels, is made once for all
    runs in which it has the same settings. Raises BadInput with all faults of the table, the overrides and the dataset.
    """
    table = load_table(name)
    where = runs_folder(table, folder)
    chosen = [table.row(row) for row in rows] or table.rows
    runs = table_runs(table, chosen, where, seeds, overrides)
    texts: dict[Path, str] = {}
    faults: list[str] = []
    notes: dict[str, None] = {}
    for run in runs:
        try:
            planned = plan_one(table, run, dataset, overrides)
            texts[run.makefile] = planned.text
            notes |= dict.fromkeys(planned.notes)
        except BadInput as error:
            faults += [fault for fault in error.faults if fault not in faults]
    if faults:
        raise BadInput(faults)
    texts[output or where / "Makefile"] = render_table(table, name, runs, where, dataset, overrides)
    for path, text in texts.items():
        publish_extra(path, os.fsencode(text))
    for note in notes:
        say(f"note: {note}")
    last = shlex.quote(str(output or where / "Makefile"))
    say(f"wrote {last}: {len(runs)} runs of {len(chosen)} rows; run it with `make -f {last}`")


def table_runs(
    table: PublishedTable, rows: Sequence[Row], folder: Path, seeds: int | None, overrides: Sequence[str]
) -> list[TableRun]:
    """The runs of ``rows``, a row after the other; runs that make the same once for all rounds share a folder."""
    alike: dict[str, Path] = {}
    found = []
    for row in rows:
        plan = table.plan(row, overrides)
        once = [(step.name, step.reads, plan.settings(step)) for step in shared_steps(plan.recipe)]
        key = repr([(step, sorted(reads.items()), settings.result_settings()) for step, reads, settings in once])
        shared = alike.setdefault(key, folder / f"shared-{len(alike)}") if once else None
        makes = tuple(shared_files(plan.recipe).values())
        for seed in range(seeds or table.seeds_of(row)):
            found.append(TableRun(row, seed, run_folder(folder, row, seed), shared, makes))
    return found


def plan_one(table: PublishedTable, run: TableRun, dataset: Path, overrides: Sequence[str]) -> Planned:
    """The Makefile of one run. All steps but those it shares have its seed."""
    plan = table.plan(run.row, overrides)
    alike = [step.name for step in shared_steps(plan.recipe)]
    names = dict.fromkeys(step.name for step in plan.recipe.steps if step.name not in alike)
    seeded = [f"{name}.seed={run.seed}" for name in names] if run.seed else []
    rounds = table.rounds_of(run.row, plan)
    settings = [*run.row.set, *overrides, *seeded]
    return plan_run(run.row.recipe, dataset, run.folder, table.profile, rounds, settings, shared=run.shared)


def render_table(
    table: PublishedTable,
    name: str,
    runs: Sequence[TableRun],
    folder: Path,
    dataset: Path,
    overrides: Sequence[str],
) -> str:
    """The Makefile that runs all of ``runs`` by their own Makefiles and shows what they measured."""
    lines = [
        f"# {table.title}: {len(runs)} runs. Written by `alseg reproduce`; plain make runs them all:",
        "#   make -f THIS -j2        run, or continue after a failure or an interruption",
        f"#   make -f THIS {runs[0].target}",
        "#                           one run",
        "#   make -f THIS -n         show what is left to do",
        "#   make -f THIS measured   show the published numbers beside those measured so far",
        "",
        f"DATASET := {make_path(dataset)}",
        "ALSEG ?= alseg",
        "LAUNCH ?=",
        "TRAIN ?= $(ALSEG)",
        'PASSED = DATASET="$(DATASET)" ALSEG="$(ALSEG)" LAUNCH="$(LAUNCH)" TRAIN="$(TRAIN)"',
        "",
    ]
    make = "\t@$(MAKE) --no-print-directory $(PASSED) -f"  # make -n looks for $(MAKE) in the line itself
    targets = [run.target for run in runs]
    shared = {run.shared: run for run in reversed(runs) if run.shared is not None}
    phony = [*targets, *(path.name for path in shared)]
    lines += [".PHONY: all report measured " + " ".join(phony), "", "all: report", ""]
    for path, run in shared.items():
        files = " ".join(target.replace("$(SHARED)", make_path(path)) for target in run.makes)
        lines += [f"{path.name}:", f"{make} {make_path(run.makefile)} {files}", ""]
    for run in runs:
        needs = "" if run.shared is None else f" {run.shared.name}"
        lines += [f"{run.target}:{needs}", f"{make} {make_path(run.makefile)}", ""]
    lines += [f"report: {' '.join(targets)}"]
    lines += [f"\t$(ALSEG) {' '.join(words)}" for words in report_commands(table, runs, folder)]
    shown = ["reproduce", name, "--runs", str(folder), "--json", str(folder / "measured.json")]
    show = f"\t$(ALSEG) {' '.join(map(quoted, shown))}"
    lines += [show, "", "measured:", show]
    return "\n".join(lines) + "\n"


def report_commands(table: PublishedTable, runs: Sequence[TableRun], folder: Path) -> list[list[str]]:
    """`compare` and `report`, for the rows with the same full supervision each."""
    full = {run.row.full for run in runs} - {""}
    groups: dict[str, list[TableRun]] = {}
    for run in runs:
        if run.row.name not in full:
            groups.setdefault(run.row.full, []).append(run)
    commands = []
    for bound, members in groups.items():
        with_bound = [["--full", str(run.folder)] for run in runs if run.row.name == bound and run.seed == 0]
        ending = "-".join(["", table.row(bound).folder] if bound else [])
        options = [*(with_bound[0] if with_bound else []), "--checkpoint", table.checkpoint]
        every = [str(run.folder) for run in members]
        steps = dict.fromkeys(run.row.evaluation for run in members)
        evaluation = next(iter(steps)) if len(steps) == 1 else "evaluation"
        options += ["--evaluation", evaluation] if evaluation != "evaluation" else []
        commands.append(["compare", *every, *options, "-o", str(folder / f"curve{ending}.png")])
        commands.append(["report", *every, *options, "--images", "0", "-o", str(folder / f"report{ending}.html")])
    return [[quoted(word) for word in words] for words in commands]
