"""``python -m tests.published``: measures the training steps of published rows.

It runs what the trainings of a row take and records the steps in docs/results/published-steps.json; ``--whole`` runs
all stages and records what the row took as well.
"""

import argparse
import json
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.published.running import run_case
from tests.published.short import Case, cases
from tests.reference.costs import MEASURED, key_of, trainings_of


def main() -> None:
    """Runs the rows that are named, or all that lack a measured step, and records each as soon as it is done."""
    parser = argparse.ArgumentParser(prog="python -m tests.published", description=__doc__)
    parser.add_argument("rows", nargs="*", help="TABLE/ROW; none: those that lack a measured step (--whole: all)")
    parser.add_argument("--whole", action="store_true", help="run all stages")
    parser.add_argument("--list", action="store_true", help="only list the rows")
    arguments = parser.parse_args()
    every = cases()
    if unknown := [name for name in arguments.rows if name not in every]:
        parser.error(f"there is no row {', '.join(unknown)}; see --whole --list")
    failed: list[str] = []
    for name in arguments.rows or every:
        record = read_record()
        if not (arguments.rows or arguments.whole or lacks_steps(every[name], record)):
            continue
        if arguments.list:
            print(name)
            continue
        try:
            with tempfile.TemporaryDirectory(prefix="alseg-published-") as folder:
                found = run_case(name, Path(folder), only_steps=not arguments.whole)
        except RuntimeError as error:
            failed.append(name)
            print(error, file=sys.stderr, flush=True)
            continue
        print(f"{name}: {found['seconds']} s, {found['peak']} GiB", file=sys.stderr, flush=True)
        record = read_record()  # of another process that measured meanwhile
        steps = found.pop("steps")  # measured among other stages if all were run, so not as well
        record["steps"] = steps | record["steps"] if arguments.whole else record["steps"] | steps
        record["rows"] |= {name: found} if arguments.whole else {}
        write_record(record, every)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def keys_of(case: Case) -> set[str]:
    """The keys of the row's training steps."""
    plan = case.table.plan(case.row)
    return {key_of(case.table, plan, step) for step in trainings_of(plan)}


def lacks_steps(case: Case, record: dict[str, Any]) -> bool:
    """Whether a training step of the row, with its present settings, is not recorded."""
    return not keys_of(case) <= record["steps"].keys()


def read_record() -> dict[str, Any]:
    """What is recorded so far."""
    if not MEASURED.is_file():
        return {"machine": "", "steps": {}, "rows": {}}
    return json.loads(MEASURED.read_text(encoding="utf-8"))


def write_record(record: dict[str, Any], every: dict[str, Case]) -> None:
    """Writes the record, without rows and steps that no table has any more."""
    import torch

    used = {key for case in every.values() for key in keys_of(case)}
    record["steps"] = {key: cost for key, cost in sorted(record["steps"].items()) if key in used}
    record["rows"] = {name: found for name, found in sorted(record["rows"].items()) if name in every}
    record["machine"] = (
        f"{platform.machine()} CPU, one thread, Python {platform.python_version()}, torch {torch.__version__}"
    )
    MEASURED.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
