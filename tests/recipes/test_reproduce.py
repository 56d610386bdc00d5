"""`reproduce`: the Makefiles of a table, what they share, and published beside measured numbers."""

import json
import shutil
import subprocess

import pytest
from typer.testing import CliRunner
from worlds import random_masks, write_dataset

from alseg_cli.app import app
from stages.artifacts.evaluation import Evaluation
from stages.artifacts.opening import read_any_header
from stages.recipes.experiment import made_from_dataset
from stages.recipes.measured_tables import measure_table
from stages.recipes.recipe import load_recipe
from stages.recipes.reproduce import write_table
from stages.recipes.tables import load_table
from stages.runtime.errors import BadInput

NAMES = [f"i{number}" for number in range(6)]
SPLITS = dict(zip(NAMES, ["train"] * 4 + ["val", "test"], strict=True))
TINY = ["train.epochs=1", "train.batch=2", "train.head-width=8", "train.low-level-width=4", "train.device=cpu"]
TINY += ["train.backbone=test_efficientnet"]
HEAD = """
title = "Mine"
source = "a paper"
dataset = "made"
profile = "scenes"
prepare = "alseg prepare made.toml -o d.h5"
cost = "labels"
checkpoint = "last"
seeds = 2
note = "A note."
images = { train = 4, val = 1, test = 1, size = [32, 40] }
labels = ["10", "20"]
"""
PIXELS = """
[[rows]]
name = "Pixel Pick"
recipe = "pixelpick"
full = "All"
mean = [41.5, 50.0]
std = [nan, 0.25]
[[rows]]
name = "All"
recipe = "full"
labels = ["masks"]
seeds = 1
"""
REGIONS = """
[[rows]]
name = "ClassBal"
recipe = "classbal"
[[rows]]
name = "Random"
recipe = "classbal-random"
[[rows]]
name = "Coarse"
recipe = "classbal"
set = ["extract-superpixels.count=12"]
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "d.h5", random_masks(NAMES, (32, 40), 3), 3, SPLITS)
    return tmp_path


def alseg(*words, code=0):
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.output


def would_run(makefile, *words):
    """The commands that make would run, joined lines, without what follows where nothing is left to query."""
    done = subprocess.run(
        ["make", "-n", "-f", makefile, *words], capture_output=True, text=True, check=True, timeout=60
    )
    lines = done.stdout.replace("\\\n", "").splitlines()
    return [line.partition(" || ")[0].rstrip() for line in lines if line.startswith("alseg ")]


def test_a_table_is_a_makefile(place, capsys):
    (place / "mine.toml").write_text(HEAD + PIXELS)
    write_table("mine.toml", place / "d.h5", None, None)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "note: profile scenes is for dataset scenes, but this is made"
    assert said[1:] == [
        "wrote runs/mine/Makefile: 3 runs of 25 stages, 0 of which are made by another run; run it with `make -f "
        "runs/mine/Makefile`"
    ]
    folder = place / "runs" / "mine"
    runs = ["pixel-pick-0", "pixel-pick-1", "all-0"]
    assert [path.name for path in folder.iterdir()] == ["Makefile"]
    assert all(f"\n{run}: " in (folder / "Makefile").read_text() for run in runs)
    commands = would_run("runs/mine/Makefile")
    assert [line.split()[1] for line in commands].count("train") == 2 * 2 + 1
    *_, compare, report, shown = commands
    full = "--full runs/mine/all-0 --checkpoint last"
    both = "runs/mine/pixel-pick-0 runs/mine/pixel-pick-1"
    assert compare.split() == f"alseg compare {both} {full} -o runs/mine/curve-all.png".split()
    assert report.split() == f"alseg report --images 0 {both} {full} -o runs/mine/report-all.html".split()
    assert shown == "alseg reproduce mine.toml --runs runs/mine --json runs/mine/measured.json"
    seeded = [line for line in commands if "--seed 1" in " ".join(line.split())]
    assert len(seeded) == 2 * 5
    assert all("runs/mine/pixel-pick-1/" in line for line in seeded)
    assert all("--seed" not in line for line in commands if "pixel-pick-0/round" in line)
    one = would_run("runs/mine/Makefile", "all-0")
    assert {line.rpartition(" ")[2].rpartition("/")[0] for line in one} == {"runs/mine/all-0/round-0"}


def test_rows_seeds_and_settings_are_chosen(place):
    (place / "mine.toml").write_text(HEAD + PIXELS)
    output, folder = place / "few.mk", place / "few"
    write_table("mine.toml", place / "d.h5", output, folder, ["all"], 3, ["train.epochs=7", "seed=5"])
    assert not folder.exists()
    commands = would_run("few.mk")
    assert sum("--epochs 7" in " ".join(line.split()) for line in commands) == 3


def test_variables_reach_every_run(place):
    (place / "mine.toml").write_text(HEAD + PIXELS)
    write_table("mine.toml", place / "d.h5", None, None)
    (place / "d.h5").rename(place / "moved.h5")
    shown = subprocess.run(
        ["make", "-n", "-f", "runs/mine/Makefile", "DATASET=moved.h5", "ALSEG=other", "TRAIN=torchrun x", "all-0"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "other score moved.h5" in shown
    assert "torchrun x train moved.h5" in shown


def test_superpixels_are_cut_once_for_all_runs_that_cut_alike(place):
    (place / "mine.toml").write_text(HEAD + REGIONS)
    write_table("mine.toml", place / "d.h5", None, None)
    cut = [line.split()[-1] for line in would_run("runs/mine/Makefile") if " extract-superpixels " in line]
    assert cut == ["runs/mine/classbal-0/base.h5", "runs/mine/coarse-0/base.h5"]
    text = (place / "runs/mine/Makefile").read_text()
    assert "\n$(RUN)/random-1/base.h5: $(RUN)/classbal-0/base.h5\n" in text


def test_seeds_leave_alone_what_is_made_from_the_dataset():
    assert [step.name for step in made_from_dataset(load_recipe("madbal"))] == ["base", "clusters"]
    assert made_from_dataset(load_recipe("pixelpick")) == []


def test_faults_of_the_dataset_and_the_settings_are_told_before_anything_is_written(place):
    (place / "mine.toml").write_text(HEAD + PIXELS)
    for words, says in (
        ({"rows": ["none"]}, "has no row 'none'. Choose one of Pixel Pick, All."),
        ({"overrides": ["train.crop=900,900"]}, "A crop of 900x900 exceeds the images"),
        ({"overrides": ["train.nothing=1"]}, "--set train.nothing=1"),
    ):
        with pytest.raises(BadInput, match=r"^[^\n]*" + says.replace("(", r"\(")):
            write_table("mine.toml", place / "d.h5", None, None, **words)
    assert not (place / "runs").exists()


@pytest.mark.slow
def test_published_and_measured_numbers_side_by_side(place):
    """The commands of the Makefiles are run in this process; the numbers are those of the evaluations."""
    (place / "mine.toml").write_text(HEAD + PIXELS)
    overrides = [word for value in TINY for word in ("--set", value)]
    alseg("reproduce", "mine.toml", "d.h5", "--seeds", "2", "--row", "Pixel Pick", *overrides)
    for line in would_run("runs/mine/Makefile")[:-1]:
        if line.split()[1] not in ("compare", "report"):
            alseg(*line.split()[1:])
    shown = " ".join(alseg("reproduce", "mine.toml", "--json", "measured.json").split())
    measured = json.loads((place / "measured.json").read_text())
    rounds = [[], []]
    for seed in range(2):
        for number in range(2):
            with Evaluation(place / f"runs/mine/pixel-pick-{seed}/round-{number}/evaluation.h5") as file:
                last = file.strings("models/checkpoint").index("last")
                rounds[number].append(100 * float(file.read("miou")[last]))
    for own, (one, two) in zip(measured["rows"]["Pixel Pick"], rounds, strict=True):
        assert own["mean"] == pytest.approx((one + two) / 2)
        assert own["std"] == pytest.approx(abs(one - two) / 2**0.5)
        assert own["runs"] == 2
    assert set(measured["rows"]) == {"Pixel Pick"}
    assert measured["weights"] == ["none"]
    assert measured["devices"] == ["cpu"]
    assert "41.5" in shown
    assert "50.0 ± 0.2" in shown  # 0.25 with one digit
    assert f"{sum(rounds[1]) / 2:.1f} ±" in shown
    seeds = {read_any_header(path).seed for path in place.glob("runs/mine/pixel-pick-1/round-0/*.h5")}
    assert seeds == {1}


def test_nothing_measured_is_said_and_writes_no_file(place):
    (place / "mine.toml").write_text(HEAD + PIXELS)
    assert measure_table(load_table("mine.toml"), place)["rows"] == {}
    assert "Prepare with: alseg prepare made.toml -o d.h5\nA note." in alseg("reproduce", "mine.toml")
    with pytest.raises(BadInput, match="Nothing is measured below runs/mine"):
        alseg("reproduce", "mine.toml", "--json", "measured.json")
    assert not (place / "measured.json").exists()


def test_the_list_names_every_table():
    from stages.recipes.tables import table_names

    shown = alseg("reproduce")
    assert all(name in shown for name in table_names())
