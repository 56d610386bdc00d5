"""Shipped recipes are valid and planned for every profile; what is wrong with a recipe or its settings is told."""

import pytest

from stages.recipes.plan import build_rules, parse_overrides, read_plan
from stages.recipes.profile import load_profile, profile_names, rounds_of
from stages.recipes.recipe import load_recipe, recipe_names
from stages.recipes.resolve import combined, resolve, stage_layers
from stages.registry import SETTINGS
from stages.runtime.errors import BadInput

METHODS = [name for name in recipe_names() if load_recipe(name).steps]


def rules_of(name, rounds, profile=None, overrides=(), common=()):
    return build_rules(read_plan(name, profile, overrides), rounds, list(common))


def settings_of(stage, given, recipe, profile=None):
    return resolve(stage, given, recipe, profile).settings


@pytest.mark.parametrize("name", METHODS)
class TestEveryRecipe:
    def test_is_valid_and_says_what_it_is(self, name):
        recipe = load_recipe(name)
        assert recipe.title
        assert recipe.source
        assert set(recipe.profiles) <= set(profile_names())

    def test_every_profile_gives_valid_settings_for_every_stage(self, name):
        recipe = load_recipe(name)
        for profile in profile_names():
            for stage in SETTINGS:
                combined(stage, stage_layers(recipe, load_profile(profile), stage), [])
            rounds = rounds_of(recipe, load_profile(profile))
            rules = rules_of(name, 4 if rounds == "budget" else rounds, profile)
            made = {"$(DATASET)"}
            for rule in rules:
                assert set(rule.needs) <= made
                assert rule.target not in made
                made.add(rule.target)

    def test_downloaded_weights_are_named_exactly(self, name):
        """A name without a tag means whatever weights the installed version of timm prefers."""
        for profile in profile_names():
            plan = read_plan(name, profile)
            for step in plan.recipe.steps:
                made = plan.settings(step).flat()
                chosen = made.get("backbone", made.get("encoder", "none.needed"))
                assert "." in chosen or made["weights"] == "none", (profile, step.name, chosen)


def before(rules, target):
    """Everything that ``target`` is made of, at whatever remove."""
    needs = {rule.target: rule.needs for rule in rules}
    found, left = set(), [target]
    while left:
        new = set(needs.get(left.pop(), ())) - found
        found |= new
        left += new
    return found


def test_regions_are_merged_once_where_they_serve_all_later_rounds():
    targets = [rule.target for rule in rules_of("adaptive-superpixel-merged-once-reference", 4)]
    assert [target for target in targets if target.endswith("regions.h5")] == ["$(RUN)/regions.h5"]


@pytest.mark.parametrize("name", ["madbal", "madbal-reference"])
def test_support_heads_choose_and_are_not_trained_in_the_last_round(name):
    last = before(rules_of(name, 3, "scenes"), "$(RUN)/round-2/evaluation.h5")
    assert "$(RUN)/round-1/support.safetensors" in last
    assert "$(RUN)/round-2/support.safetensors" not in last


@pytest.mark.parametrize("profile", ["cityscapes", "scenes"])
@pytest.mark.parametrize("name", ["multi-class-query", "multi-class-query-reference", "multi-class-query-random"])
def test_stage_2_runs_beside_the_next_round_and_feeds_nothing_of_it(name, profile):
    rules = rules_of(name, 3, profile)
    for number in range(3):
        own, following = f"$(RUN)/round-{number}/", f"$(RUN)/round-{number + 1}/"
        stage2 = own + "stage2.safetensors"
        made_of_it = {rule.target for rule in rules if stage2 in before(rules, rule.target)}
        assert made_of_it == {own + "evaluation.h5"}
        assert {own + "stage1.safetensors", own + "pseudo-labels.h5"} <= before(rules, stage2)
        assert not any(target.startswith(following) for target in before(rules, own + "evaluation.h5"))
        if number < 2:
            assert own + "stage1.safetensors" in before(rules, following + "scores.h5")
            assert own + "pseudo-labels.h5" not in before(rules, following + "stage1.safetensors")


BROKEN = """
title = "broken"
source = "nowhere"
[settings.train]
epochz = 3
[settings.fly]
height = 1
[profiles.camvid.settings.select]
fractoin = 0.1
[[steps]]
name = "scores"
stage = "score"
reads = { model = "nothing@before" }
"""


def test_all_faults_of_a_recipe_are_told_at_once(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text(BROKEN)
    with pytest.raises(BadInput) as error:
        load_recipe(str(path))
    text = str(error.value)
    assert all(word in text for word in ("epochz", "fly", "fractoin", "nothing@before"))


def test_a_recipe_of_the_user_builds_on_a_shipped_one(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('base = "pixelpick"\ntitle = "mine"\n[profiles.camvid.settings.train]\nepochs = 7\n')
    optimisation = settings_of("train", {}, str(path), "camvid").optimisation
    assert optimisation.epochs == 7
    assert optimisation.schedule == "milestones"
    assert [step.name for step in load_recipe(str(path)).steps] == [
        step.name for step in load_recipe("pixelpick").steps
    ]


def test_options_override_profile_override_recipe():
    for given, profile, batch in (({}, None, 4), ({}, "voc2012", 10), ({"batch": "6"}, "voc2012", 6)):
        assert settings_of("train", given, "pixelpick", profile).optimisation.batch == batch


def test_an_override_by_the_name_of_a_step_is_for_that_step_alone():
    def epochs(overrides, profile="scenes"):
        rules = rules_of("madbal", 2, profile, overrides)
        trained = [rule.words for rule in rules if rule.words[0] == "train"]
        return [words[words.index("--epochs") + 1] if "--epochs" in words else None for words in trained[:2]]

    assert epochs([]) == [None, "10"]  # the profile's for the step
    assert epochs([], "cityscapes") == [None, "30"]  # the step's own
    assert epochs(["train.epochs=3"]) == ["3", "10"]
    assert epochs(["support.epochs=3"]) == [None, "3"]
    assert epochs(["train.epochs=3", "support.epochs=4"]) == ["3", "4"]


def test_a_profile_cannot_set_what_a_step_does_not_have(tmp_path):
    path = tmp_path / "broken.toml"
    steps = "\n[profiles.scenes.steps.support]\nepochz = 3\n[profiles.scenes.steps.suport]\nepochs = 3\n"
    path.write_text('base = "madbal"\ntitle = "mine"' + steps)
    with pytest.raises(BadInput, match="epochz") as error:
        load_recipe(str(path))
    assert "the recipe has no such step" in str(error.value)


def test_overrides_of_a_plan_are_checked_all_at_once():
    recipe = load_recipe("pixelpick")
    with pytest.raises(BadInput) as error:
        parse_overrides(recipe, ["train.epochz=1", "nonsense", "score.measure=margin"])
    assert len(error.value.faults) == 2
