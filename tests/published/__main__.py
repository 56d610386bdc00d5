"""``python -m tests.published [ROW...]``: measures rows and records them in docs/results/published-steps.json."""

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
    """Runs the rows that are named, or all that are not measured, and records each as soon as it is done."""
    parser = argparse.ArgumentParser(prog="python -m tests.published", description=__doc__)
    parser.add_argument("rows", nargs="*", help="TABLE/ROW; none: those not measured yet")
    parser.add_argument("--list", action="store_true", help="only list them")
    arguments = parser.parse_args()
    every = cases()
    if unknown := [name for name in arguments.rows if name not in every]:
        parser.error(f"there is no row {', '.join(unknown)}; see --list")
    record = read_record()
    wanted = arguments.rows or [name for name, case in every.items() if is_missing(case, record)]
    for name in wanted:
        if arguments.list:
            print(name)
            continue
        with tempfile.TemporaryDirectory(prefix="alseg-published-") as folder:
            found = run_case(name, Path(folder))
        print(f"{name}: {found['seconds']} s, {found['peak']} GiB", file=sys.stderr, flush=True)
        record = read_record()  # of another process that measured meanwhile
        record["steps"] |= found.pop("steps")
        record["rows"][name] = found
        write_record(record, every)


def is_missing(case: Case, record: dict[str, Any]) -> bool:
    """Whether the row, or one of its training steps with its present settings, is not recorded."""
    plan = case.table.plan(case.row)
    keys = [key_of(case.table, plan, step) for step in trainings_of(plan)]
    return case.name not in record["rows"] or any(key not in record["steps"] for key in keys)


def read_record() -> dict[str, Any]:
    """What is recorded so far."""
    if not MEASURED.is_file():
        return {"machine": "", "steps": {}, "rows": {}}
    return json.loads(MEASURED.read_text(encoding="utf-8"))


def write_record(record: dict[str, Any], every: dict[str, Case]) -> None:
    """Writes the record, without rows and steps that no table has any more."""
    import torch

    used = set()
    for case in every.values():
        plan = case.table.plan(case.row)
        used |= {key_of(case.table, plan, step) for step in trainings_of(plan)}
    record["steps"] = {key: cost for key, cost in sorted(record["steps"].items()) if key in used}
    record["rows"] = {name: found for name, found in sorted(record["rows"].items()) if name in every}
    record["machine"] = (
        f"{platform.machine()} CPU, one thread, Python {platform.python_version()}, torch {torch.__version__}"
    )
    MEASURED.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
