"""Plans let the stages of a round that run the same network over the same images run it once."""

from pathlib import Path

import pytest

from stages.recipes.makefile import render
from stages.recipes.plan import Run, build_rules, read_plan


def sharing(recipe: str, overrides: tuple[str, ...] = (), rounds: int = 3) -> dict[str, str]:
    """The folder of predictions of each target that has one."""
    rules = build_rules(read_plan(recipe, None, overrides), rounds, [])
    return {
        rule.target: rule.words[rule.words.index("--predictions") + 1]
        for rule in rules
        if "--predictions" in rule.words
    }


@pytest.mark.parametrize("recipe", ["adaptive-superpixel", "adaptive-superpixel-reference"])
def test_merging_scoring_and_sieving_share_predictions(recipe):
    assert sharing(recipe) == {
        f"$(RUN)/round-{number}/{name}.h5": f"$(RUN)/round-{number}/predictions"
        for number in (1, 2)
        for name in ("regions", "scores", "pseudo-labels")
    }


@pytest.mark.parametrize("recipe", ["pixelpick", "classbal", "madbal", "multi-class-query", "als4gan"])
def test_a_network_that_runs_once_a_round_keeps_nothing(recipe):
    assert sharing(recipe) == {}


def test_stages_that_see_other_images_keep_their_own():
    assert {Path(target).stem for target in sharing("adaptive-superpixel", ("score.input-scale=0.5",))} == {
        "regions",
        "pseudo-labels",
    }
    assert sharing("adaptive-superpixel", ("score.input-scale=0.5", "pseudo-label.precision=bfloat16")) == {}
    chosen = sharing("adaptive-superpixel", ("score.predictions=/tmp/mine",))
    assert [folder for target, folder in chosen.items() if "scores" in target] == ["/tmp/mine"] * 2


def test_the_last_stage_removes_them():
    plan = read_plan("adaptive-superpixel")
    rules = build_rules(plan, 2, [])
    removing = [rule.target for rule in rules if rule.removed]
    assert removing == ["$(RUN)/round-1/pseudo-labels.h5"]
    text = render([Run("", plan, 2, rules)], Path("d.h5"), Path("run"))
    _, _, after = text.partition("$(RUN)/round-1/pseudo-labels.h5:")
    command, _, _ = after.partition("\n\n")
    assert command.endswith("-o $@\n\t@rm -rf $(RUN)/round-1/predictions\n\t@touch -c $@")
