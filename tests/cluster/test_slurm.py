"""An experiment on a real Slurm: by Snakemake's executor and by make with srun, a training stopped in its middle."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from worlds import random_masks, write_dataset

from stages.artifacts.opening import read_any_header
from stages.recipes.experiment import Wanted, plan_runs

pytestmark = pytest.mark.cluster

NAMES = [f"i{number}" for number in range(6)]
SPLITS = {"i4": "val", "i5": "test"}
PROFILE = """
title = "Small jobs"
[resources]
train = { cpus = 1, memory_gb = 2, minutes = 20 }
network = { cpus = 1, memory_gb = 2, minutes = 10 }
other = { cpus = 1, memory_gb = 2, minutes = 10 }
[settings.train]
epochs = 40
batch = 2
head_width = 8
low_level_width = 4
backbone = "test_efficientnet"
weights = "none"
device = "cpu"
checkpoint_seconds = 0
validate_every = 40
[settings.select]
budget = 2
"""
RUNS = [f"{recipe}-{seed}" for recipe in ("pixelpick", "random-pixels") for seed in (0, 1)]
FILES = [f"round-0/{name}" for name in ("annotations.h5", "model.safetensors", "evaluation.h5")]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}


# Stands in for alseg: notes its words, and writes its output unless it does a shard
PROGRAM = """#!/bin/sh
echo "$@" >> log
for last; do :; done
case "$*" in *" --shard "*) ;; *) echo whole > "$last";; esac
"""


def written(folder: Path, format_: str, **options: Any) -> Path:
    """A folder with a dataset and the plan of two recipes and two seeds on it, or of what ``options`` say."""
    folder.mkdir()
    write_dataset(folder / "d.h5", random_masks(NAMES, (32, 40), 3), 3, SPLITS)
    (folder / "small.toml").write_text(PROFILE)
    before = Path.cwd()
    os.chdir(folder)
    try:
        wanted: dict[str, Any] = {"recipes": ["pixelpick", "random-pixels"], "seeds": [0, 1]} | options
        made = plan_runs(Wanted(dataset=Path("d.h5"), profiles=["small.toml"], rounds=1, format=format_, **wanted))
        (folder / "plan").write_text(made.text)
    finally:
        os.chdir(before)
    return folder


def made(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "-f", "plan", *words], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=900
    )


def digests(folder: Path) -> dict[str, str]:
    return {f"{run}/{file}": read_any_header(folder / "runs" / run / file).digest for run in RUNS for file in FILES}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, program):
    """What the experiment gives on this machine, without a scheduler."""
    folder = written(tmp_path_factory.mktemp("here") / "run", "make")
    done = made(folder, f"ALSEG={program}", "-j2")
    assert done.returncode == 0, done.stderr
    return digests(folder)


def stop_a_training(folder: Path) -> str:
    """Sends SIGTERM to the job of a training that has begun to learn; the name of its run."""
    for _ in range(600):
        for path in folder.glob("runs/*/round-0/model.safetensors.work/*step-*"):
            jobs = subprocess.run(["squeue", "--noheader", "--format=%i %T"], capture_output=True, text=True).stdout
            running = [line.split()[0] for line in jobs.splitlines() if line.endswith("RUNNING")]
            for job in running:
                subprocess.run(["scancel", "--signal=TERM", job], check=True)
            if running:
                return path.parts[-3]
        time.sleep(0.2)
    raise AssertionError("no training has begun")


def test_make_goes_on_after_a_stopped_job(slurm, undisturbed, tmp_path, program):
    folder = written(tmp_path / "run", "make")
    words = [f"ALSEG={program}", "LAUNCH=srun --mem=2G --cpus-per-task=1"]
    command = subprocess.Popen(
        ["make", "-f", "plan", *words], cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    stop_a_training(folder)
    said, _ = command.communicate(timeout=300)
    assert b"Error 75" in said  # the stage has saved
    done = made(folder, *words)
    assert done.returncode == 0, done.stderr
    assert digests(folder) == undisturbed


@pytest.fixture
def on_slurm(slurm, tmp_path) -> list[str]:
    """The command that runs a plan by Snakemake's executor and the documented profile, with logs in tmp_path/logs."""
    snakemake = os.environ.get("ALSEG_SNAKEMAKE") or shutil.which("snakemake")
    if snakemake is None:
        if os.environ.get("ALSEG_SLURM") == "required":
            pytest.fail("snakemake is not installed")
        pytest.skip("snakemake is not installed (ALSEG_SNAKEMAKE=PATH names it)")
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm" / "config.yaml").write_text(documented_profile())
    words = ["--profile", str(tmp_path / "slurm"), "--jobs", "2", "--slurm-status-command", "squeue"]
    return [snakemake, "-s", "plan", *words, "--slurm-keep-successful-logs", "--slurm-logdir", str(tmp_path / "logs")]


def documented_profile() -> str:
    """The profile for Snakemake in the documentation."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "makefiles-and-clusters.md"
    return page.read_text().split("```yaml\n")[1].split("```")[0]


def test_snakemake_requeues_a_stopped_job(on_slurm, undisturbed, tmp_path, program):
    folder = written(tmp_path / "run", "snakemake")
    with open(tmp_path / "log", "wb") as log:
        command = subprocess.Popen(
            [*on_slurm, "--config", f"alseg={program}"], cwd=folder, env=ENVIRONMENT, stdout=log, stderr=log
        )
        stop_a_training(folder)
        assert command.wait(900) == 0, (tmp_path / "log").read_text()[-3000:]
    said = "".join(path.read_text() for path in (tmp_path / "log", *(tmp_path / "logs").rglob("*.log")))
    assert "Trying to restart job" in said  # by the Snakemake within the job, or by the one that waits for it
    assert digests(folder) == undisturbed


def test_snakemake_runs_a_divided_plan(on_slurm, tmp_path):
    """Regions before the divided scores and queries after them, of which those of a round were one job."""
    options = {"recipes": ["classbal"], "seeds": None, "run": Path("run"), "shards": {"score": 2}}
    folder = written(tmp_path / "run", "snakemake", **options)
    (folder / "alseg").write_text(PROGRAM)
    (folder / "alseg").chmod(0o755)
    command = [*on_slurm, "run/round-0/annotations.h5", "--config", f"alseg={folder}/alseg"]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    log = [line.split() for line in (folder / "log").read_text().splitlines()]
    assert {line[-1] for line in log if line[0] == "score"} == {"0/2", "1/2", "run/round-0/scores.h5"}
    joined = [line[0] for line in log if "--shard" not in line]
    assert joined == ["extract-superpixels", "score", "select", "annotate-simulate"]
    assert not list((folder / "run").rglob(".*"))
