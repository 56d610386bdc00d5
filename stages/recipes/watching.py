"""`alseg status` of several runs: which targets are done, running, failed or waiting."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from stages.artifacts.failures import last_failure
from stages.artifacts.locks import Holder, holder_of
from stages.recipes.targets import PlannedRun, Target, planned_runs
from stages.runtime.console import print_table
from stages.runtime.errors import NOTHING_LEFT

DONE, RUNNING, STOPPED, ENDED, FAILED, DIED = "done", "running", "stopped", "ended", "failed", "died"
PEOPLE, READY, WAITING = "waits for people", "ready", "waiting"
FINISHED, STOPPED_CODE = "finished", 75
ORDER = (FAILED, DIED, STOPPED, ENDED, PEOPLE, READY, WAITING)
"""The states of a run without a running target: the first that one of its targets is in."""


@dataclass(frozen=True)
class Watched:
    """A target and its state; ``told`` is the rest in words. ``exit`` is the code of a failed command."""

    target: str
    stage: str
    round: int | None
    state: str
    told: str = ""
    pid: int | None = None
    host: str | None = None
    since: str | None = None
    progress: str | None = None
    exit: int | None = None
    error: str | None = None


def show_targets(folders: Sequence[Path], every: bool, as_json: bool) -> None:
    """Prints a line per run in ``folders``, with a table of the targets if ``every``; or all of it as JSON."""
    found = [(run, [watched(run, target) for target in run.targets]) for run in planned_runs(folders)]
    if as_json:
        print(json.dumps([as_values(run, targets) for run, targets in found], indent=1))
        return
    for run, targets in found:
        print(summary(run, targets))
        if every:
            table = Table("target", "stage", "state", "", box=None, pad_edge=False)
            for each in targets:
                table.add_row(each.target, each.stage, each.state, each.told)
            print_table(table)


def as_values(run: PlannedRun, targets: Sequence[Watched]) -> dict[str, Any]:
    """A run as JSON values."""
    counts = Counter(each.state for each in targets)
    return {
        "run": str(run.folder),
        "plan": str(run.plan),
        "state": state_of(targets),
        "done": counts[DONE],
        "total": len(targets),
        "targets": [asdict(each) for each in targets],
    }


def summary(run: PlannedRun, targets: Sequence[Watched]) -> str:
    """One line about a run, with its targets that run, failed or wait for people."""
    state = state_of(targets)
    done = sum(each.state == DONE for each in targets)
    shown = [each for each in targets if each.state in (RUNNING, FAILED, DIED, STOPPED, ENDED, PEOPLE)]
    told = "; ".join(" ".join(filter(None, (each.state, each.target, each.told))) for each in shown)
    return f"{run.folder}: {state}, {done} of {len(targets)} targets done" + (f"; {told}" if told else "")


def state_of(targets: Sequence[Watched]) -> str:
    """The state of a run."""
    states = {each.state for each in targets}
    if states <= {DONE}:
        return FINISHED
    return RUNNING if RUNNING in states else next(state for state in ORDER if state in states)


def watched(run: PlannedRun, target: Target) -> Watched:
    """The state of ``target``: what its files say, and those that it needs."""
    name, stage = target.path.relative_to(run.folder).as_posix(), target.stage or "brought by people"
    holder = holder_of(target.path)
    if holder is not None and holder.alive:
        where = f"on {holder.host} (process {holder.pid}) since {holder.since}" if holder.host else ""
        told = ", ".join(filter(None, (where, holder.progress)))
        return Watched(
            name, stage, target.round, RUNNING, told, holder.pid, holder.host, holder.since, holder.progress or None
        )
    if target.path.exists():
        return Watched(name, stage, target.round, DONE)
    failure = last_failure(target.path)
    if failure is not None:
        state = {STOPPED_CODE: STOPPED, NOTHING_LEFT: ENDED}.get(failure.exit or 0, FAILED)
        code = "" if failure.exit is None else f" (exit {failure.exit})"
        told = f"at {failure.time}{code}: {failure.error}"
        return Watched(name, stage, target.round, state, told, exit=failure.exit, error=failure.error)
    if holder is not None:
        return Watched(name, stage, target.round, DIED, died(holder), holder.pid, holder.host, holder.since)
    if not all(need.exists() for need in target.needs):
        return Watched(name, stage, target.round, WAITING)
    return Watched(name, stage, target.round, PEOPLE if target.by_people else READY)


def died(holder: Holder) -> str:
    """What is known of a process that left its lock."""
    began = f"{holder.progress}; " if holder.progress else ""
    return (
        f"on {holder.host} (process {holder.pid}), which began {holder.since} and ended without a word ({began}killed, "
        "or out of memory); run it again to go on"
    )
