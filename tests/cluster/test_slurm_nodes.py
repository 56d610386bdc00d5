"""One stage as several jobs or tasks of a real Slurm: an array of shards, and a training by a torchrun per task."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from programs import ALSEG, ENVIRONMENT, ROOT, run
from worlds import random_masks, random_round, write_dataset

from stages.artifacts.opening import read_any_header

pytestmark = pytest.mark.cluster

NAMES = [f"i{number}" for number in range(8)]
SCORE = ("score", "d.h5", "--measure", "random", "-o", "s.h5")  # 3 parts
NETWORK = ("--backbone", "test_efficientnet", "--weights", "none", "--head-width", "8", "--low-level-width", "4")
TRAIN = ("train", "d.h5", "a.h5", *NETWORK, "--epochs", "3", "--batch", "4", "-o", "m.safetensors")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


@pytest.fixture
def folder(tmp_path):
    """A dataset and answers."""
    dataset = write_dataset(tmp_path / "d.h5", random_masks(NAMES, (32, 40), 3), 3, {"i6": "val", "i7": "val"})
    random_round(tmp_path, dataset, 0).rename(tmp_path / "a.h5")
    return tmp_path


def submit(folder: Path, *words: str) -> str:
    """What sbatch prints; with --wait it fails if the job does."""
    words = ("sbatch", "--parsable", "--mem=1500M", "--output=%x-%a.log", *words)
    done = subprocess.run(words, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr + "".join(path.read_text() for path in folder.glob("*.log"))
    return done.stdout.strip()


def test_an_array_of_shards_and_a_job_that_joins_them(slurm, folder):
    command = shlex.join([*ALSEG, *SCORE])
    array = submit(folder, "--array=0-2", "--job-name=part", "--wrap", f"{command} --shard $SLURM_ARRAY_TASK_ID/3")
    submit(folder, "--wait", f"--dependency=afterany:{array}", "--job-name=join", "--wrap", command)
    told = [path.read_text().splitlines()[-1] for path in sorted(folder.glob("part-*.log"))]
    assert told == [f"wrote shard {index}/3 of s.h5: 1 of 3 parts" for index in range(3)]
    (joined,) = folder.glob("join-*.log")
    assert joined.read_text().startswith("wrote s.h5: random for 6 images")
    run(*SCORE[:-1], "alone.h5", cwd=folder).expect(0)
    assert read_any_header(folder / "s.h5").digest == read_any_header(folder / "alone.h5").digest


def test_two_tasks_train_one_model_by_the_documented_script(slurm, folder):
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    script = page.partition("```sh\n#!/bin/bash\n")[2].partition("```")[0]
    script, _, command = script.replace("torchrun", shlex.join(TORCHRUN)).partition("  -m alseg_cli ")
    assert command.endswith("'\n")
    lines = [line for line in script.splitlines() if not line.startswith("#SBATCH")]
    text = "\n".join(["#!/bin/bash", *lines, f"  -m alseg_cli {shlex.join(TRAIN)}'"])
    (folder / "train.sh").write_text(text)
    submit(folder, "--wait", "--ntasks=2", "--job-name=train", "train.sh")
    (log,) = folder.glob("train-*.log")
    assert log.read_text().count("wrote m.safetensors") == 1
    alone = [*TORCHRUN, "--standalone", "--nproc-per-node", "2", "-m", "alseg_cli"]
    run(*TRAIN[:-1], "alone.safetensors", cwd=folder, program=alone).expect(0)
    assert read_any_header(folder / "m.safetensors").digest == read_any_header(folder / "alone.safetensors").digest
