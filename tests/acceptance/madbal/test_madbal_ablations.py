"""Ablations of MADBAL: one override of the recipe each."""

from pathlib import Path

import numpy as np
import pytest
from madbal_support import BUDGET, RECIPES, asked, settings_of
from typer.testing import CliRunner

import stages
from alseg_cli.app import app
from stages.artifacts.opening import read_any_header
from stages.artifacts.queries import Queries
from stages.commands import cluster_regions, extract_superpixels, score, select
from stages.recipes.plan import build_rules, check_settings, read_plan

PROFILES = ["cityscapes", "voc2012", "camvid", "camvid-cpu", "scenes"]
ABLATIONS = {  # override: the step that it is for, and the words of its command
    "score.maturity=none": ("scores", "--maturity none"),
    "score.lossiness=false": ("scores", "--no-lossiness"),
    "cluster-regions.method=random": ("clusters", "--method random"),
    "cluster-regions.clusters=5": ("clusters", "--clusters 5"),
    "score.class_balance=none": ("scores", "--class-balance none"),
    "select.remainder=reference": ("queries", "--remainder reference"),
    "score.maturity=image": ("scores", "--maturity image"),
    "extract-superpixels.method=slic": ("base", "--method slic"),
}


def planned(name, profile, override):
    """The rules of two rounds."""
    plan = read_plan(name, profile, [override])
    check_settings(plan)
    return build_rules(plan, 2, [["--recipe", name], ["--profile", profile]])


@pytest.mark.parametrize("override", ABLATIONS)
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", RECIPES)
def test_ablations_are_plans_of_every_profile(name, profile, override):
    step, words = ABLATIONS[override]
    rules = planned(name, profile, override)
    made = {"$(DATASET)"}
    for rule in rules:
        assert set(rule.needs) <= made
        made.add(rule.target)
    changed = [rule for rule in rules if Path(rule.target).stem == step]
    assert words in " ".join(changed[-1].words)
    assert all(words not in " ".join(rule.words) for rule in rules if rule not in changed)


@pytest.mark.parametrize("override", ABLATIONS)
def test_commands_of_ablations_reach_their_stages_as_planned(monkeypatch, override):
    """What the last command of the step hands to its stage, and nothing is run."""
    step, _ = ABLATIONS[override]
    rule = [rule for rule in planned("madbal", "scenes", override) if Path(rule.target).stem == step][-1]
    got = []
    module = {"base": extract_superpixels, "clusters": cluster_regions, "scores": score, "queries": select}[step]
    monkeypatch.setattr(module, "run", lambda **arguments: got.extend(arguments.values()))
    words = [word.replace("$(DATASET)", "d.h5").replace("$(RUN)", "run").replace("$@", "out.h5") for word in rule.words]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    (settings,) = (value for value in got if isinstance(value, stages.settings.base.StageSettings))
    name, value = override.partition(".")[2].split("=")
    assert str(settings.flat()[name]).lower() == value


@pytest.mark.parametrize("name, value", [("maturity", "none"), ("lossiness", False), ("class_balance", "none")])
def test_ablations_of_scores_choose_otherwise(world, tmp_path, name, value):
    given = world["dataset"], world["base"], 1, world["clusters"], world["ledger0"], world["support0"]
    scores, queries = asked(tmp_path, *given, **{name: value})
    assert read_any_header(scores).digest != read_any_header(world["scores1"]).digest
    assert (np.bincount(Queries(queries).image) == BUDGET).all()


def test_without_maturity_and_lossiness_support_heads_change_nothing(world, tmp_path):
    plain = settings_of("scores", 1, maturity="none", lossiness=False)
    found = set()
    for name in ("model0", "support0"):
        given = world[name], world["base"], world["clusters"], world["ledger0"]
        found.add(read_any_header(score.run(world["dataset"], tmp_path / f"{name}.h5", plain, *given)).digest)
    assert len(found) == 1
