"""Plans let all trainings of all runs keep the features of a frozen backbone in one folder."""

import pytest
from worlds import random_masks, write_dataset

from stages.recipes.experiment import Wanted, plan_runs
from stages.recipes.plan import build_rules, read_plan


def folders(*overrides: str) -> set[str]:
    """The folders of features in a plan of two rounds."""
    rules = build_rules(read_plan("pixelpick", None, overrides), 2, [])
    return {rule.words[rule.words.index("--features") + 1] for rule in rules if "--features" in rule.words}


@pytest.mark.parametrize(
    "overrides, found",
    [
        (("train.freeze=backbone",), {"$(RUN)/features"}),
        (("train.freeze=backbone", "train.views=0"), set()),
        (("train.freeze=backbone", "train.features=/tmp/mine"), {"/tmp/mine"}),
        ((), set()),
    ],
)
def test_trainings_of_a_run(overrides, found):
    assert folders(*overrides) == found


def test_runs_of_one_plan_share_them(tmp_path):
    dataset = write_dataset(tmp_path / "d.h5", random_masks(["a", "b"], (32, 32), 3), 3, {"b": "test"})
    recipes = ("pixelpick", "random-pixels")
    planned = plan_runs(Wanted(recipes, dataset, rounds=2, overrides=("train.freeze=backbone",)))
    lines = [line for line in planned.text.splitlines() if "--features" in line]
    assert lines
    assert all("--features $(RUN)/features" in line for line in lines)
