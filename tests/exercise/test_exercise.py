"""The exercise: each kind of part is added by one short file, and a method made of it by a short recipe."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner
from worlds import random_masks, write_dataset

from alseg_cli.app import app
from stages.artifacts.opening import open_any
from stages.artifacts.verify import verify_one

HERE = Path(__file__).parent
PARTS = sorted(path.stem for path in (HERE / "parts").glob("*.py"))
LINES = {"disagreement": 21, "gini": 9, "plain": 35, "smooth": 20, "squared": 29, "stripes": 18, "tempered": 18}
RECIPES = {"bald": 7, "own": 7}
TINY = ["--backbone", "test_efficientnet", "--weights", "none", "--epochs", "1", "--batch", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A dataset, random answers and a trained network, and copies of the exercise."""
    folder = tmp_path_factory.mktemp("exercise")
    names = [f"i{number}" for number in range(6)]
    splits = dict(zip(names, ["train"] * 4 + ["val", "test"], strict=True))
    write_dataset(folder / "d.h5", random_masks(names, (32, 40), 3), 3, splits)
    shutil.copytree(HERE / "parts", folder / "parts")
    for name in RECIPES:
        shutil.copy(HERE / f"{name}.toml", folder)
    run(folder, "score d.h5 --measure random -o s0.h5")
    run(folder, "select d.h5 s0.h5 --rule uniform --budget 20 -o q0.h5")
    run(folder, "annotate-simulate d.h5 q0.h5 -o a0.h5")
    run(folder, "train d.h5 a0.h5 --head-width 8 --low-level-width 4 -o m.safetensors", *TINY)
    return folder


def run(folder, command, *words):
    paths = [str(folder / word) if (folder / word).exists() or "." in word else word for word in command.split()]
    done = CliRunner().invoke(app, [*paths, *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def recorded(file, plugin):
    """The artifact in ``file``, which names the plug-in with its digest among its inputs."""
    artifact = open_any(file)
    assert len(artifact.header.inputs[f"plugin {plugin}"].digest) == 64
    assert artifact.header.versions[f"plugin {plugin}"] == "file"
    assert verify_one(file)[0] == []
    return artifact


@pytest.mark.parametrize("name", PARTS)
def test_each_part_is_one_short_file(name):
    assert len((HERE / "parts" / f"{name}.py").read_text().splitlines()) == LINES[name] < 60


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_is_ten_lines_at_most(name):
    assert len((HERE / f"{name}.toml").read_text().splitlines()) == RECIPES[name] <= 10


def test_a_measure(world):
    run(world, "score d.h5 --model m.safetensors --plugin parts/gini.py --measure gini -o gini.h5")
    assert recorded(world / "gini.h5", "gini").map("i0").max() <= 1 - 1 / 3 + 1e-6


def test_a_measure_of_several_passes(world):
    words = "--plugin parts/disagreement.py --measure disagreement --committee 3 --sharpness 2"
    run(world, f"score d.h5 --model m.safetensors {words} -o disagreement.h5")
    artifact = recorded(world / "disagreement.h5", "disagreement")
    assert artifact.header.settings["committee"] == 3
    assert artifact.map("i0").max() > 0


def test_a_rule(world):
    run(world, "select d.h5 s0.h5 --plugin parts/tempered.py --rule tempered --temperature 5 --budget 3 -o tempered.h5")
    assert len(recorded(world / "tempered.h5", "tempered")) == 12


def test_a_loss(world):
    own = "--plugin parts/smooth.py --loss smooth --head-width 8 --low-level-width 4"
    run(world, f"train d.h5 a0.h5 {own} -o smooth.safetensors", *TINY)
    assert recorded(world / "smooth.safetensors", "smooth").header.settings["smoothing"] == 0.1


def test_an_objective(world):
    own = "--plugin parts/squared.py --objective squared --head-width 8 --low-level-width 4"
    run(world, f"train d.h5 a0.h5 {own} -o squared.safetensors", *TINY)
    recorded(world / "squared.safetensors", "squared")


def test_a_cutter(world):
    run(world, "extract-superpixels d.h5 --plugin parts/stripes.py --method stripes --stripe-width 8 -o stripes.h5")
    assert recorded(world / "stripes.h5", "stripes").number("i0") == 5


def test_an_architecture(world):
    own = "--plugin parts/plain.py --architecture plain"
    run(world, f"train d.h5 a0.h5 {own} -o plain.safetensors", *TINY)
    recorded(world / "plain.safetensors", "plain")
    run(world, "score d.h5 --model plain.safetensors --plugin parts/plain.py -o plain.h5")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_made_of_them_is_planned(name, world):
    run(world, f"plan {name}.toml d.h5 -o {name}.mk")
    assert (world / f"{name}.mk").read_text().count("--recipe") == 50


def test_help_and_settings_know_the_options_of_a_plug_in(world):
    text = run(world, "select --plugin parts/tempered.py --rule tempered --help")
    assert "--temperature" in text
    text = run(world, "score d.h5 --recipe bald.toml --print-settings -o x.h5")
    assert "committee" in text
