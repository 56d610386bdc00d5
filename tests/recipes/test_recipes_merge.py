"""How recipes build on one another, and profiles on recipes."""

import pytest

from stages.recipes.profile import load_profile, rounds_of
from stages.recipes.recipe import load_recipe, merged_steps
from stages.recipes.resolve import resolve, step_settings
from stages.runtime.errors import BadInput

BASE = [
    {"name": "scores", "stage": "score", "rounds": "first", "settings": {"measure": "random"}},
    {"name": "scores", "stage": "score", "rounds": "later", "reads": {"model": "model@before"}},
    {"name": "queries", "stage": "select", "reads": {"scores": "scores"}},
    {"name": "model", "stage": "train", "reads": {"labels": "queries"}},
]


def places(steps):
    return [(step["name"], step.get("rounds", "all")) for step in steps]


def test_a_step_of_the_same_name_and_rounds_is_merged():
    (first, later, *_) = merged_steps(BASE, [{"name": "scores", "rounds": "later", "reads": {"superpixels": "base"}}])
    assert first == BASE[0]
    assert later["reads"] == {"model": "model@before", "superpixels": "base"}
    assert later["stage"] == "score"


def test_a_step_in_overlapping_rounds_replaces():
    steps = merged_steps(BASE, [{"name": "scores", "stage": "score"}])
    assert places(steps) == [("scores", "all"), ("queries", "all"), ("model", "all")]
    assert "reads" not in steps[0]


def test_a_new_step_comes_after_what_it_reads():
    new = {"name": "pseudo", "stage": "pseudo-label", "reads": {"annotations": "queries", "model": "model@before"}}
    assert places(merged_steps(BASE, [new])) == [*places(BASE[:3]), ("pseudo", "all"), ("model", "all")]


def write(path, text):
    path.write_text(text)
    return str(path)


def test_steps_of_the_base_can_be_left_out(tmp_path):
    own = write(tmp_path / "mine.toml", 'base = "madbal"\nwithout = ["support"]\ntitle = "mine"\n')
    with pytest.raises(BadInput, match=r"'support@before' is no step of this recipe; name one\.$"):
        load_recipe(own)
    own = write(tmp_path / "mine.toml", 'base = "pixelpick"\nwithout = ["suport"]\ntitle = "mine"\n')
    with pytest.raises(BadInput, match=r"without names suport, which pixelpick does not have; remove it\.$"):
        load_recipe(own)


def test_an_input_that_the_stage_does_not_read_is_named(tmp_path):
    step = '[[steps]]\nname = "model"\nreads = { scores = "scores" }\n'
    own = write(tmp_path / "mine.toml", f'base = "pixelpick"\ntitle = "mine"\n{step}')
    with pytest.raises(BadInput, match="train has no such input; it reads labels, model"):
        load_recipe(own)


def test_a_profile_takes_rounds_away_and_never_adds_any():
    scenes = load_profile("scenes")
    assert scenes.rounds == 3
    assert rounds_of(load_recipe("pixelpick"), scenes) == 3
    assert rounds_of(load_recipe("full"), scenes) == 1
    assert rounds_of(load_recipe("als4gan"), scenes) == "budget"
    assert rounds_of(load_recipe("pixelpick"), load_profile("camvid")) == 10


def test_a_profile_of_the_user_works_with_any_recipe(tmp_path):
    own = write(tmp_path / "mine.toml", 'title = "mine"\nrounds = 2\n[settings.train]\nepochs = 5\nhead_width = 32\n')
    assert resolve("train", {}, "madbal", own).settings.optimisation.epochs == 5
    assert rounds_of(load_recipe("madbal"), load_profile(own)) == 2
    wrong = write(tmp_path / "wrong.toml", 'title = "mine"\n[settings.train]\nepoch = 5\n[settings.trian]\na = 1\n')
    with pytest.raises(BadInput) as error:
        load_profile(wrong)
    assert len(error.value.faults) == 2


def test_what_a_recipe_says_for_a_stage_is_for_the_steps_it_applies_to():
    recipe, profile = load_recipe("madbal"), load_profile("scenes")
    first, later = (step for step in recipe.steps if step.stage == "score")
    assert step_settings(recipe, profile, first).flat()["measure"] == "random"
    assert "maturity" not in step_settings(recipe, profile, first).flat()
    assert step_settings(recipe, profile, later).flat()["maturity"] == "pixel"


def test_a_setting_of_a_step_that_does_not_apply_is_refused(tmp_path):
    step = '[[steps]]\nname = "queries"\nrounds = "later"\nsettings = { remainder = "largest" }\n'
    recipe = load_recipe(write(tmp_path / "mine.toml", f'base = "pixelpick"\ntitle = "mine"\n{step}'))
    later = next(step for step in recipe.steps if step.name == "queries" and step.rounds == "later")
    with pytest.raises(BadInput, match="remainder does not apply to rule pool; it is for rule clusters"):
        step_settings(recipe, load_profile(None), later)


def test_what_a_dataset_says_lies_below_recipes(tmp_path):
    from stages.datasets.description import load_description

    defaults = load_description("voc2012").defaults
    recipe = load_recipe("pixelpick")
    step = next(step for step in recipe.steps if step.stage == "evaluate")
    assert step_settings(recipe, load_profile(None), step, None, defaults).flat()["split"] == "val"
    assert (
        step_settings(recipe, load_profile(None), step, {"evaluate": {"split": "test"}}, defaults).flat()["split"]
        == "test"
    )


FRAGMENT = """
title = "settings only"
source = "nowhere"
[settings.train]
epochs = 3
head_lr = 0.25
[profiles.voc2012.settings.train]
batch = 6
"""


def test_further_bases_add_settings_in_turn(tmp_path):
    write(tmp_path / "one.toml", FRAGMENT)
    write(tmp_path / "two.toml", FRAGMENT.replace("epochs = 3\nhead_lr = 0.25", "epochs = 4"))
    text = 'base = ["pixelpick", "one.toml", "two.toml"]\ntitle = "mine"\n[settings.train]\nbackbone_lr = 0.5\n'
    own = load_recipe(write(tmp_path / "mine.toml", text))
    train = own.settings["train"]
    assert (train["epochs"], train["head_lr"], train["backbone_lr"], train["optimiser"]) == (4, 0.25, 0.5, "adam")
    assert own.profile("voc2012").settings["train"]["batch"] == 6
    assert own.profile("voc2012").settings["train"]["optimiser"] == "sgd"
    assert own.steps == load_recipe("pixelpick").steps
    assert (own.title, own.source) == ("mine", load_recipe("pixelpick").source)


def test_steps_come_from_the_first_base(tmp_path):
    own = write(tmp_path / "mine.toml", 'base = ["pixelpick", "full"]\ntitle = "mine"\n')
    with pytest.raises(BadInput, match=r"base full has steps, so it must be the first base\. Move it or remove it\.$"):
        load_recipe(own)
