"""Runs a row cut short in a process of its own: ``python -m tests.published.running ROW FOLDER [steps]``."""

import json
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.published.material import prepare_words, write_root
from tests.published.short import Case, cases

ROOT = Path(__file__).parents[2]


def run_case(name: str, folder: Path, timeout: float | None = None, only_steps: bool = False) -> dict[str, Any]:
    """Runs the row ``name`` below ``folder`` in another process: CPU seconds, also per stage, peak GiB, its steps.

    ``only_steps``: no more than its trainings take. RuntimeError with the end of its output if it fails.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.published.running", name, str(folder), *(["steps"] if only_steps else [])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if done.returncode:
        raise RuntimeError(f"{name} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
    return json.loads((folder / "result.json").read_text())


def prepared(case: Case, folder: Path, invoke: Any) -> Path:
    dataset = folder / "dataset.h5"
    invoke(prepare_words(case.table, write_root(case.table.dataset, folder / "root"), dataset))
    return dataset


def run_here(case: Case, folder: Path, only_steps: bool) -> dict[str, Any]:
    """Prepares generated images and runs the commands of the row, one after another, in this process."""
    from typer.testing import CliRunner

    from alseg_cli.app import app
    from stages.artifacts.dataset import Dataset
    from tests.published.steps import measured_steps

    def invoke(words: list[str]) -> None:
        result = CliRunner().invoke(app, words, catch_exceptions=False)
        if result.exit_code:
            raise SystemExit(f"alseg {' '.join(words)}\n{result.output}")

    stages: dict[str, float] = {}
    began = cpu_seconds()
    dataset = prepared(case, folder, invoke)
    with Dataset(dataset) as data:
        sizes = set(data.sizes.values())
    if case.size not in sizes:
        raise SystemExit(f"{case.name}: the table says {case.size}, the prepared images are {sorted(sizes)}")
    with measured_steps() as steps:
        for rule in case.training_rules() if only_steps else case.rules():
            started = cpu_seconds()
            invoke(command_words(rule.words, {"$(DATASET)": str(dataset), "$@": rule.target}, folder / "run"))
            name = rule.words[0]
            stages[name] = round(stages.get(name, 0.0) + cpu_seconds() - started, 2)
    if not only_steps and not sorted((folder / "run").glob(f"**/{case.row.evaluation}.h5")):
        raise SystemExit(f"{case.name}: nothing was evaluated")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds = round(cpu_seconds() - began, 1)
    return {"seconds": seconds, "peak": round(peak, 2), "stages": stages, "steps": steps}


def cpu_seconds() -> float:
    """What this process and those it started have computed so far, which depends little on what else runs."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def command_words(words: list[str], names: Mapping[str, str], run: Path) -> list[str]:
    return [names.get(word, word).replace("$(RUN)", str(run)) for word in words]


if __name__ == "__main__":
    name, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(run_here(cases()[name], folder, "steps" in sys.argv[3:])))
