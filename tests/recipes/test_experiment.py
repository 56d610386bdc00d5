"""`plan` with several recipes, profiles and seeds: one Makefile, and nothing made twice."""

import shutil
import subprocess
from collections import Counter

import pytest
from typer.testing import CliRunner
from worlds import random_masks, write_dataset

from alseg_cli.app import app
from stages.artifacts.opening import read_any_header
from stages.recipes.experiment import Wanted, plan_runs
from stages.reporting.report.collect import find_plan
from stages.runtime.errors import BadInput

NAMES = [f"i{number}" for number in range(6)]
SPLITS = {"i4": "val", "i5": "test"}

TINY = ["train.epochs=1", "train.batch=2", "train.head-width=8", "train.low-level-width=4", "train.device=cpu"]
TINY += ["train.backbone=test_efficientnet", "train.weights=none", "select.budget=2"]
# Stands in for alseg: notes its words, writes its output and a file beside it
PROGRAM = """#!/bin/sh
for word; do last=$word; done
echo "$@" >> log
mkdir -p "${last%/*}"
echo "$last $$" > "$last"
echo beside > "${last%.*}.csv"
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "d.h5", random_masks(NAMES, (32, 40), 3), 3, SPLITS)
    return tmp_path


def alseg(*words):
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def would_run(*words):
    """The commands of alseg that make would run, and the files it would link."""
    shown = subprocess.run(["make", "-n", *words], capture_output=True, text=True, check=True, timeout=60).stdout
    lines = shown.replace("\\\n", "").splitlines()
    return (
        [line.partition(" || ")[0].split() for line in lines if line.startswith("alseg ")],
        [line.split()[2:] for line in lines if line.startswith("cp -lf ")],
    )


def of(recipes, place, **options):
    return plan_runs(Wanted(recipes, place / "d.h5", rounds=2, **options))


def test_the_first_round_is_made_once_for_recipes_that_begin_alike(place):
    said = alseg("plan", "pixelpick", "random-pixels", "d.h5", "--seeds", "0,3", "--rounds", "2", "-o", "e.mk")
    # Per seed: five stages of round 0, and the random scores, which are the same in each round
    assert "wrote e.mk: 4 runs of 40 stages, 12 of which are made by another run" in said
    commands, links = would_run("-f", "e.mk")
    *stages, compare, report = commands
    outputs = Counter(words[-1] for words in stages)
    assert set(outputs.values()) == {1}
    assert len(outputs) == 28
    folders = Counter(target for _, target in links)
    assert folders == {f"runs/random-pixels-{s}/round-{r}/": n for s in (0, 3) for r, n in ((0, 5), (1, 1))}
    assert ["runs/pixelpick-3/round-0/model.*", "runs/random-pixels-3/round-0/"] in links
    seeds = {words[words.index("--seed") + 1] for words in stages if "--seed" in words and "-3/" in words[-1]}
    assert seeds == {"3"}
    assert not any("--seed" in words for words in stages if "-0/round" in words[-1])
    runs = [f"runs/{name}-{seed}" for name in ("pixelpick", "random-pixels") for seed in (0, 3)]
    assert compare == ["alseg", "compare", *runs, "-o", "runs/curve.png"]
    assert report == ["alseg", "report", *runs, "-o", "runs/report.html"]
    alone, _ = would_run("-f", "e.mk", "pixelpick-3")
    assert {words[-1].split("/")[1] for words in alone} == {"pixelpick-3"}


def test_full_supervision_is_one_run_that_all_are_compared_with(place):
    alseg("plan", "pixelpick", "d.h5", "--seeds", "1,2", "--full", "full", "--run", "mine", "-o", "e.mk")
    *_, compare, _ = would_run("-f", "e.mk")[0]
    assert compare[2:] == ["mine/pixelpick-1", "mine/pixelpick-2", "--full", "mine/full-1", "-o", "mine/curve.png"]
    both = of(["pixelpick", "full"], place, full="full").text
    assert "compare $(RUN)/pixelpick --full $(RUN)/full" in both
    assert [run.name for run in of(["pixelpick", "full"], place, full="full").runs] == ["pixelpick", "full"]


def test_profiles_and_files_name_the_folders(place):
    (place / "mine.toml").write_text('base = "pixelpick"\n')
    made = of(["mine.toml"], place, profiles=["scenes", "camvid-cpu"])
    assert [run.name for run in made.runs] == ["mine-scenes", "mine-camvid-cpu"]
    with pytest.raises(BadInput, match="Two runs would be called pixelpick"):
        of(["pixelpick", "pixelpick"], place)


def test_faults_of_all_recipes_are_told_at_once(place):
    with pytest.raises(BadInput) as error:
        of(["pixelpick", "nothing", "madbal"], place, overrides=["train.crop=900,900"])
    assert any("nothing" in fault for fault in error.value.faults)
    assert any("900x900" in fault for fault in error.value.faults)
    with pytest.raises(BadInput, match="People answer one run at a time"):
        of(["pixelpick", "madbal"], place, people="page")
    for wrong in ("a", "1,1", "", "1.5", "-1", "²"):
        done = CliRunner().invoke(app, ["plan", "pixelpick", "d.h5", "--seeds", wrong])
        assert isinstance(done.exception, BadInput)
        assert "--seeds must be different whole numbers" in str(done.exception)


def test_a_run_finds_its_part_of_the_makefile(place):
    alseg("plan", "pixelpick", "madbal", "d.h5", "--profile", "scenes", "--seeds", "0,10", "--run", "all", "-o", "e.mk")
    for name, recipe in (("pixelpick-10", "pixelpick"), ("madbal-0", "madbal")):
        (place / "all" / name).mkdir(parents=True)
        plan = find_plan(place / "all" / name)
        assert (plan.recipe, plan.profile, plan.command) == (recipe, "scenes", f"make -f e.mk {name}")
    (place / "all" / "other").mkdir()
    assert find_plan(place / "all" / "other") is None


def test_an_override_goes_to_the_recipes_that_take_it(place):
    """Regions are cut by one of the two, and only that one has a step of this name."""
    made = of(["pixelpick", "classbal"], place, overrides=["base.count=9", "train.epochs=3", "train.head_lr=0.5"])
    words = {run.name: [rule.words for rule in run.rules] for run in made.runs}
    assert not any("--count" in each for each in words["pixelpick"])
    assert sum("--count" in each for each in words["classbal"]) == 1
    assert all(any("--epochs" in each for each in found) for found in words.values())
    with pytest.raises(BadInput) as error:
        of(["pixelpick", "random-pixels"], place, overrides=["base.count=9", "train.views=4", "train.epochs=3"])
    assert [fault.partition(":")[0] for fault in error.value.faults] == ["--set base.count=9", "--set train.views"]


@pytest.mark.slow
def test_what_is_shared_is_linked_and_follows_its_source(place):
    """Make runs a small experiment; the linked files are those of the first run, also after it was made anew."""
    program = place / "alseg"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    (place / "e.mk").write_text(of(["pixelpick", "random-pixels"], place).text)

    def made(*words):
        (place / "log").write_text("")
        done = subprocess.run(
            ["make", "-f", "e.mk", "-j2", "ALSEG=./alseg", *words], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return [line.split()[0] for line in (place / "log").read_text().splitlines()]

    first = Counter(made())
    assert first == Counter(score=2, select=3, **{"annotate-simulate": 3}, train=3, evaluate=3, compare=1, report=1)
    one, two = (place / "runs" / name / "round-0" for name in ("pixelpick", "random-pixels"))
    for name in ("model.safetensors", "model.csv", "annotations.h5", "evaluation.csv"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    assert made() == []
    (one / "model.safetensors").unlink()
    again = Counter(made())
    assert again["train"] == 2  # also the next round of the one that asks by its scores
    assert (one / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()
    (two / "model.safetensors").unlink()
    assert "train" not in made()[:1]
    assert (two / "model.safetensors").exists()
    assert len(made("-B")) == 16
    shutil.rmtree(place / "runs")
    made("LINK=cp -pf", "random-pixels")
    assert (two / "model.csv").exists()


@pytest.mark.slow
def test_a_linked_run_is_as_one_alone(place):
    """The same digests as in a plan of its own; compare and report take both."""
    settings = [word for value in TINY for word in ("--set", value)]
    alseg("plan", "pixelpick", "random-pixels", "d.h5", "--run", "both", "--rounds", "1", *settings, "-o", "both.mk")
    alseg("plan", "random-pixels", "d.h5", "--run", "alone", "--rounds", "1", *settings, "-o", "alone.mk")
    for makefile in ("both.mk", "alone.mk"):
        commands, links = would_run("-f", makefile)
        for words in commands:
            if words[1] in ("compare", "report"):
                continue
            alseg(*words[1:])
        for source, target in links:
            (place / target).mkdir(parents=True, exist_ok=True)
            subprocess.run(f"cp -lf {source} {target}", shell=True, check=True, cwd=place)
    for path in (place / "alone/round-0").glob("*.h5"):
        linked = place / "both/random-pixels/round-0" / path.name
        assert read_any_header(linked).digest == read_any_header(path).digest
    shown = alseg("compare", "both/pixelpick", "both/random-pixels")
    assert "pixelpick" in shown
    assert "random-pixels" in shown
    alseg("report", "both/pixelpick", "both/random-pixels", "-o", "r.html")
    alseg("verify", *map(str, sorted((place / "both/random-pixels/round-0").glob("*.h5"))))
