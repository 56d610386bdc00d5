"""Settings of one round of a plan, and a recipe whose models start from those of the round before."""

import pytest

from stages.recipes.plan import build_rules, check_settings, read_plan
from stages.runtime.errors import BadInput


def trainings(recipe: str, *overrides: str, rounds: int = 3):
    plan = read_plan(recipe, None, overrides)
    check_settings(plan)
    return [rule for rule in build_rules(plan, rounds, []) if rule.stage == "train"]


def test_a_setting_of_one_round():
    rules = trainings("pixelpick", "train@0.epochs=4", "model@1.epochs=8", "train.epochs=20", "train@2.batch=6")
    assert [rule.settings.optimisation.epochs for rule in rules] == [4, 8, 20]
    assert [rule.settings.optimisation.batch for rule in rules] == [4, 4, 6]
    words = [" ".join(rule.words) for rule in rules]
    assert ["--epochs 4" in words[0], "--epochs 8" in words[1], "--epochs 20" in words[2]] == [True] * 3
    assert ["--batch" in each for each in words] == [False, False, True]


def test_a_step_comes_after_its_stage_and_a_round_after_all_rounds():
    rules = trainings("pixelpick", "model@0.epochs=4", "train@0.epochs=5", "model.epochs=6", rounds=2)
    assert [rule.settings.optimisation.epochs for rule in rules] == [4, 6]


def test_models_of_a_warm_recipe_start_from_those_before():
    first, second, third = trainings("pixelpick-warm")
    assert "--model" not in first.words
    for rule, before in ((second, 0), (third, 1)):
        assert rule.words[rule.words.index("--model") + 1] == f"$(RUN)/round-{before}/model.safetensors"
        assert f"$(RUN)/round-{before}/model.safetensors" in rule.needs


@pytest.mark.parametrize(
    "override, words",
    [
        ("train@0.epchs=4", r"--set train@0\.epchs=4: Did you mean train\.epochs"),
        ("train@first.epochs=4", r"--set train@first\.epochs=4: "),
        ("train@0.epochs=few", "epochs = 'few'"),
        ("train@3.epochs=4", r"--set \.\.\.@3: the plan has the rounds 0 to 2"),
        ("train@0.views=4", r"--set train@0\.views: applies to no step of recipe pixelpick"),
    ],
)
def test_bad_settings_of_a_round_are_one_sentence(override, words):
    with pytest.raises(BadInput, match=words):
        trainings("pixelpick", override)
