"""`plan --format snakemake`: the same runs for the schedulers that Snakemake knows."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from worlds import random_masks, write_dataset

from stages.artifacts.opening import read_any_header
from stages.recipes.experiment import Wanted, plan_runs
from stages.runtime.errors import BadInput

NAMES = [f"i{number}" for number in range(6)]
SPLITS = {"i4": "val", "i5": "test"}
TINY = ["train.epochs=1", "train.batch=2", "train.head-width=8", "train.low-level-width=4", "train.device=cpu"]
TINY += ["train.backbone=test_efficientnet", "train.weights=none", "select.budget=2"]
SNAKEMAKE = os.environ.get("ALSEG_SNAKEMAKE") or shutil.which("snakemake")


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "d.h5", random_masks(NAMES, (32, 40), 3), 3, SPLITS)
    return tmp_path


def snakefile(recipes, place, **options):
    return plan_runs(Wanted(recipes, place / "d.h5", format="snakemake", **options))


def rules_of(text):
    """Name -> lines of each rule."""
    parts = re.split(r"^rule (\w+):\n", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_a_rule_per_stage_says_what_it_needs(place):
    (place / "big.toml").write_text(
        'title = "Big"\n[resources]\ntrain = { gpus = 4, cpus = 32, memory_gb = 64, minutes = 100 }\n'
    )
    made = snakefile(["pixelpick"], place, rounds=2, profiles=["big.toml"])
    rules = rules_of(made.text)
    assert len(rules) == 11
    train, select = rules["make_round_1_model"], rules["make_round_1_queries"]
    assert "    threads: 32\n    resources: gpu=4, cpus_per_task=32, mem_mb=65536, runtime=100\n" in train
    assert "    retries: 2\n" in train
    assert "    group: 'round-1'\n    threads: 2\n    resources: cpus_per_task=2, mem_mb=8192, runtime=60\n" in select
    assert "gpu=1, cpus_per_task=8, mem_mb=32768, runtime=240" in rules["make_round_1_evaluation"]
    assert "        'runs/pixelpick/round-0/annotations.h5',\n" in select
    assert train.rstrip().endswith("-o {output}'")
    assert "shell: TRAIN + ' train " in train
    assert "'runs/pixelpick/round-1/evaluation.h5'" in rules["all"]


def test_what_takes_a_second_stays_where_snakemake_runs(place):
    text = snakefile(["pixelpick", "random-pixels"], place, rounds=1, seeds=[0], full="full").text
    local = text.partition("localrules:\n")[2].partition("\n\n")[0]
    assert "    make_random_pixels_0_round_0_model,\n" in local
    assert "    make_curve,\n" in local
    assert "pixelpick_0" not in local
    link = rules_of(text)["make_random_pixels_0_round_0_model"]
    assert "cp -lf runs/pixelpick-0/round-0/model.* runs/random-pixels-0/round-0/" in link
    assert "resources" not in link


def test_braces_and_dollars_reach_the_command(place):
    made = snakefile(["pixelpick"], place, rounds=1, overrides=["train.weights={a} $HOME 'b'"])
    line = re.search(r"shell: TRAIN \+ (.*)", made.text)[1]
    text = eval(line).format(output="OUT")  # a literal of the file that was just written
    words = subprocess.run(["sh", "-c", f"printf '%s\\n' {text}"], capture_output=True, text=True, check=True).stdout
    assert "{a} $HOME 'b'" in words.splitlines()


def test_people_need_a_makefile(place):
    with pytest.raises(BadInput, match="Snakemake cannot wait for people"):
        snakefile(["pixelpick"], place, people="page")
    with pytest.raises(BadInput, match="a character that make does not allow"):
        snakefile(["pixelpick"], place, run=place / "a b")


@pytest.mark.slow
@pytest.mark.skipif(not SNAKEMAKE, reason="snakemake is not installed (ALSEG_SNAKEMAKE=PATH names it)")
def test_snakemake_runs_it(place):
    """An experiment of two recipes: nothing is left to do afterwards, and the files are those of their stages.

    The evaluation that both share is divided, so its shards leave nothing either.
    """
    made = snakefile(["pixelpick", "random-pixels"], place, rounds=1, overrides=TINY, shards={"evaluate": 2})
    (place / "Snakefile").write_text(made.text)
    program = f"{sys.executable} -m alseg_cli"
    command = [SNAKEMAKE, "--cores", "2", "--config", f"alseg={program}"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("scores.h5", "queries.h5", "annotations.h5", "evaluation.h5"):
        headers = [read_any_header(place / "runs" / run / "round-0" / name) for run in ("pixelpick", "random-pixels")]
        assert headers[0].digest == headers[1].digest
    assert (place / "runs/report.html").exists()
    assert "wrote shard 1/2 of runs/pixelpick/round-0/evaluation.h5" in done.stdout + done.stderr
    assert not [path for path in (place / "runs").rglob("*") if path.suffix in (".shard", ".parts", ".lock")]
    again = subprocess.run([*command, "-n"], capture_output=True, text=True, timeout=100, env=environment)
    assert "Nothing to be done" in again.stdout + again.stderr
