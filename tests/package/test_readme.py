"""The README is true and short. What holds for all pages is in test_docs.py."""

import re
import shlex

import pytest
from pages import ROOT, blocks

README = (ROOT / "README.md").read_text()


def test_the_first_page_is_short():
    before, _, _ = README.partition("## A round by hand")
    assert "## Start" in before
    assert len(before.splitlines()) <= 40


def test_make_targets_in_the_prose_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make ([a-z]+)`", README):
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_every_method_in_the_readme_is_a_recipe():
    from stages.recipes.recipe import recipe_names

    table = README.partition("## Methods")[2].partition("## ")[0]
    named = re.findall(r"^\| `([\w-]+)`", table, re.M)
    assert len(named) == 7
    assert {*named} <= {*recipe_names()}


@pytest.mark.slow
def test_the_round_by_hand_runs_as_written(tmp_path, preloaded):
    """The first shell block that calls alseg, with the training cut short."""
    block = next(block for block in blocks(README, "sh") if "alseg score" in block)
    for line in block.splitlines():
        words = shlex.split(line)[1:]
        if words[0] == "train":
            words += ["--epochs", "2"]
        preloaded.run(*words, cwd=tmp_path, shard_images=None).expect(0)
    assert (tmp_path / "evaluation.json").is_file()
