"""The sizes that recipes prepare, validate and evaluate at are the published ones (docs/explanation/methods.md)."""

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alseg_cli.app import app
from stages.artifacts.dataset import Dataset
from stages.commands import prepare
from stages.datasets.description import load_description
from stages.recipes.checks import dataset_faults
from stages.recipes.makefile import render
from stages.recipes.plan import Run, build_rules, read_plan
from stages.recipes.profile import load_profile, prepare_line, profile_names
from stages.recipes.recipe import load_recipe, recipe_names
from stages.recipes.resolve import resolve
from stages.runtime.errors import BadInput
from stages.settings.prepare import PrepareSettings

TINY_SCENES = Path(__file__).parents[1] / "data" / "before" / "tiny.toml"
# What follows the name of the dataset and --root FOLDER
PREPARED = {
    ("pixelpick", "cityscapes"): "--scale 0.25 --evaluation-scale 0.5",
    ("full", "cityscapes"): "--scale 0.25 --evaluation-scale 0.5",
    ("pixelpick", "voc2012"): "--long-side 400 --evaluation-scale 1",
    ("pixelpick", "camvid"): "",
    ("madbal-reference", "cityscapes"): "",
    ("madbal", "voc2012"): "--long-side 800",
    ("classbal", "cityscapes"): "",
    ("adaptive-superpixel", "voc2012"): "",
    ("multi-class-query-reference", "voc2012"): "",
    ("s4gan-random", "cityscapes"): "--scale 0.5",
    ("als4gan", "voc2012"): "",
    ("als4gan", "deepglobe"): "--size 320,320",
    ("als4gan-reference", "deepglobe"): "--size 320,320 --filter bicubic-aliased",
}
# at, crop and undefined of evaluate
EVALUATED = {
    ("pixelpick", "cityscapes"): ("original", None, "skip"),
    ("random-pixels", "voc2012"): ("original", None, "skip"),
    ("pixelpick", "camvid"): ("dataset", None, "skip"),
    ("madbal", "cityscapes"): ("original", None, "skip"),  # stored as in the files, which is the same
    ("madbal-reference", "cityscapes"): ("original", None, "zero"),
    ("madbal", "voc2012"): ("dataset", None, "skip"),
    ("classbal", "cityscapes"): ("dataset", None, "skip"),
    ("adaptive-superpixel-reference", "voc2012"): ("dataset", None, "skip"),
    ("multi-class-query", "voc2012"): ("dataset", None, "skip"),
    ("multi-class-query-reference", "voc2012"): ("dataset", 513, "one"),
    ("multi-class-query-reference", "cityscapes"): ("dataset", None, "one"),
    ("dominant-query-reference", "voc2012"): ("dataset", 513, "one"),
    ("full-cosine", "voc2012"): ("dataset", 513, "one"),
    ("full-xception65", "voc2012"): ("dataset", None, "skip"),
    ("als4gan", "deepglobe"): ("dataset", None, "skip"),
}


@pytest.mark.parametrize("recipe, profile", PREPARED)
def test_the_way_to_prepare(recipe, profile):
    words = shlex.split(prepare_line(load_recipe(recipe), load_profile(profile)))
    assert words[:5] == ["alseg", "prepare", profile, "--root", "FOLDER"]
    assert " ".join(word for word in words[5:-2] if word != "--download") == PREPARED[recipe, profile]
    assert words[-2] == "-o"
    assert ("--download" in words) == bool(load_description(profile).archives)


@pytest.mark.parametrize("recipe, profile", EVALUATED)
def test_evaluation_and_validation_see_the_same(recipe, profile):
    evaluated = resolve("evaluate", {}, recipe, profile).settings.flat()
    validation = resolve("train", {}, recipe, profile).settings.validation
    assert tuple(evaluated[name] for name in ("at", "crop", "undefined")) == EVALUATED[recipe, profile]
    seen = validation.validate_at, validation.validate_crop, validation.validate_undefined
    assert seen == EVALUATED[recipe, profile]


def test_each_way_to_prepare_is_a_command(tmp_path):
    lines = {
        prepare_line(load_recipe(recipe), load_profile(profile))
        for recipe in recipe_names()
        for profile in profile_names()
    }
    for line in lines:
        if "--root FOLDER" not in line:
            continue  # drawn, not read: it would run
        words = shlex.split(line.replace("FOLDER --download", "FOLDER").replace("FOLDER", str(tmp_path)))[1:]
        result = CliRunner().invoke(app, words)
        assert isinstance(result.exception, BadInput), result.output
        assert "nothing matches" in str(result.exception) or "There is no" in str(result.exception)


def test_classbal_resizes_half_size_input_bicubically():
    for recipe in ("classbal", "rectangles-reference"):
        settings = resolve("score", {}, recipe, "cityscapes").settings.flat()
        assert (settings["input_scale"], settings["input_filter"]) == (0.5, "bicubic")


def test_adaptive_superpixels_resize_half_size_input_bicubically():
    for stage in ("extract-superpixels", "score", "pseudo-label"):
        offered = {"method": "adaptive"} if stage == "extract-superpixels" else {}
        settings = resolve(stage, offered, "adaptive-superpixel-reference", "cityscapes").settings.flat()
        assert (settings["input_scale"], settings["input_filter"]) == (0.5, "bicubic")


def test_a_plan_says_how_to_prepare(tmp_path):
    plan = read_plan("pixelpick", "voc2012")
    text = render([Run("", plan, 1, build_rules(plan, 1, []))], tmp_path / "d.h5", tmp_path / "run")
    assert f"\n# Dataset: {plan.recipe.profile('voc2012').prepare}\n" in text
    plan = read_plan("pixelpick")
    assert "# Dataset" not in render([Run("", plan, 1, build_rules(plan, 1, []))], tmp_path / "d.h5", tmp_path / "run")


def test_a_dataset_without_the_published_size_is_not_planned(tmp_path):
    plan = read_plan("pixelpick", "cityscapes", ["train.crop=none"])
    steps = [(step, plan.settings(step)) for step in plan.recipe.steps]
    for settings, faulty in (({"scale": 0.5}, True), ({"scale": 0.5, "evaluation_scale": 1}, False), ({}, False)):
        path = prepare.run(str(TINY_SCENES), None, tmp_path / "d.h5", PrepareSettings(workers=1, **settings))
        with Dataset(path) as data:
            faults = dataset_faults(data, steps)
        assert len(faults) == faulty
        assert all("keeps its images only as resized. Prepare it with --evaluation-scale" in each for each in faults)
