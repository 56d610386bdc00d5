"""Scores of which only the highest were stored: the same queries, or a sentence on what they lack."""

import numpy as np
import pytest
from worlds import random_masks, write_dataset, write_network

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.queries import Queries
from stages.artifacts.scores import Scores
from stages.commands import annotate_simulate, score, select
from stages.recipes.plan import read_plan
from stages.reporting.pictures.overlay import draw_scores
from stages.runtime.errors import BadInput
from stages.runtime.parts import RULES
from stages.scoring.pixels import only_highest
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings

SHARE = 0.25


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    dataset = write_dataset(folder / "d.h5", random_masks(["a", "b", "c"], (40, 48), 3), 3)
    model = write_network(folder / "m.safetensors", dataset)
    common = {"measure": "entropy", "device": "cpu", "keep_features": True, "keep_classes": True}

    def scored(name, **values):
        return score.run(dataset, folder / f"{name}.h5", ScoreSettings.load(common | values), model)

    made = {"dataset": dataset, "all": scored("all"), "kept": scored("kept", keep_share=SHARE)}
    queries = select.run(dataset, made["kept"], folder / "q.h5", SelectSettings.load({"budget": 30}))
    return made | {"ledger": annotate_simulate.run(dataset, queries, folder / "a.h5", AnnotateSettings())}


def chosen(world, scores, output, ledger=True, **values):
    settings = SelectSettings.load({"budget": 4} | values)
    return Queries(
        select.run(world["dataset"], world[scores], output, settings, world["ledger"] if ledger else None, force=True)
    )


def test_the_highest_stay_and_of_equals_the_first():
    scores = np.array([[3, 1, 2], [2, 2, 0]], np.float32)
    assert only_highest(scores, 0.5).tolist() == [[3, -np.inf, 2], [2, -np.inf, -np.inf]]
    assert only_highest(scores, 0.01).tolist() == [[3, -np.inf, -np.inf], [-np.inf] * 3]
    assert only_highest(scores, 1.0) is scores


def test_a_file_of_the_highest_is_smaller_and_tells_the_same_means(world):
    whole, kept = Scores(world["all"]), Scores(world["kept"])
    assert kept.path.stat().st_size < 0.75 * whole.path.stat().st_size
    for image in whole.ids:
        values, stored = whole.map(image), kept.map(image)
        known = np.isfinite(stored)
        assert known.mean() == pytest.approx(SHARE, abs=0.01)
        assert np.array_equal(stored[known], values[known])
        assert values[known].min() >= values[~known].max()
    for name in ("mean", "minimum", "maximum"):
        assert kept.header.counts[name] == whole.header.counts[name]


@pytest.mark.parametrize("scope", ["image", "dataset"])
@pytest.mark.parametrize("rule", [part.name for part in RULES.parts() if part.facts["reads"]])
def test_rules_of_the_highest_choose_the_same(world, rule, scope, tmp_path):
    values = {"rule": rule, "scope": scope} | ({"candidates": 20} if rule == "diverse" else {})
    found = [chosen(world, name, tmp_path / f"{name}.h5", **values) for name in ("all", "kept")]
    for name in ("image", "y", "x"):
        assert np.array_equal(getattr(found[0], name), getattr(found[1], name))


@pytest.mark.parametrize("rule", ["uniform", "power", "reverse-pool", "stratified"])
def test_rules_of_all_scores_are_refused(world, rule, tmp_path):
    with pytest.raises(BadInput, match=rf"Rule {rule} reads all scores, but the highest 25% alone were kept"):
        chosen(world, "kept", tmp_path / "q.h5", rule=rule)
    assert len(chosen(world, "all", tmp_path / "q.h5", rule=rule)) == 12


def test_a_share_that_is_too_small_is_told(world, tmp_path):
    with pytest.raises(
        BadInput, match=r"reads the 480 highest scores, but 4\d\d were kept .* larger --keep-share than"
    ):
        chosen(world, "kept", tmp_path / "q.h5", rule="pool", fraction=0.25)
    assert len(Annotations(world["ledger"]).queried_pixels("a")[0]) == 30
    with pytest.raises(BadInput, match=r"--control: .*kept\.h5 has only the highest 25% of the scores"):
        chosen(world, "kept", tmp_path / "q.h5", control=0.2)


def test_a_plan_keeps_the_random_scores_of_its_first_round_whole():
    """Its rule draws from all of them."""
    plan = read_plan("pixelpick", None, ["score.keep-share=0.06"])
    first, later = [plan.settings(step).flat() for step in plan.recipe.steps if step.stage == "score"]
    assert (first["measure"], later["keep_share"]) == ("random", 0.06)
    assert "keep_share" not in first
    with pytest.raises(BadInput, match="keep-share does not apply to measure random"):
        ScoreSettings.load({"measure": "random", "keep_share": 0.5})


def test_what_was_left_out_is_drawn_empty(world):
    assert draw_scores(Scores(world["kept"]), Dataset(world["dataset"]), "a")[:4] == b"\x89PNG"
