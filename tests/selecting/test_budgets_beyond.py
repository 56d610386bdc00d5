"""A budget beyond the pool takes all that is left and says so; with nothing left, a run ends."""

import numpy as np
import pytest
from worlds import random_masks, write_dataset, write_network, write_superpixels

from stages.artifacts.queries import Queries
from stages.commands import annotate_simulate, score, select
from stages.runtime.errors import BadInput, NothingLeft
from stages.runtime.parts import RULES
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings

NAMES = ["a", "b", "c"]
SIZE = (8, 10)
UNITS = {
    # settings of score and select, units in the pool, the budget that exceeds it, and what that asks for
    "pixel": ({}, {}, 240, 100, 300),
    "pixel of the dataset": ({}, {"scope": "dataset"}, 240, 100, 300),
    "region": ({"unit": "region"}, {}, 18, 100, 100),
    "region, per image": ({"unit": "region"}, {"per_image": True}, 18, 100, 300),
    "region, exact": ({"unit": "region"}, {"answer": "precise"}, 18, 100, 100),
    "region, classes": ({"unit": "region"}, {"answer": "class-set"}, 18, 100, 100),
    "best pixel": (
        {"unit": "region", "best_pixel": True, "region_score": "highest"}, {"answer": "pixel"}, 18, 100, 300,
    ),
    "image": ({"unit": "image"}, {}, 3, 100, 100),
    "image, class": ({"unit": "image"}, {"image_answer": "class"}, 3, 100, 100),
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("beyond")
    dataset = write_dataset(folder / "d.h5", random_masks(NAMES, SIZE, 3, void=0), 3)
    regions = write_superpixels(folder, dataset, region_pixels=16)  # squares of 4: 2 x 3 in each image, 2 cut off
    return folder, dataset, regions


def selected(world, unit, output, rule="top", ledger=None, **values):
    _, dataset, regions = world
    scoring, choosing, *_ = UNITS[unit]
    of_regions = regions if "unit" in scoring and scoring["unit"] == "region" else None
    settings = ScoreSettings.load({"measure": "random", **scoring})
    scores = score.run(dataset, output.with_suffix(".s.h5"), settings, None, of_regions)
    chosen = SelectSettings.load({"rule": rule, **choosing, **values})
    return select.run(dataset, scores, output, chosen, ledger, of_regions), of_regions


def test_a_budget_per_image_is_spent_in_all_together(world, tmp_path):
    queries = Queries(selected(world, "region, per image", tmp_path / "q.h5", budget=2)[0])
    assert len(queries) == 6
    assert len(np.unique(queries.image)) > 1


@pytest.mark.parametrize("unit", UNITS)
def test_all_that_is_left_is_taken_and_then_nothing_is(unit, world, tmp_path, capsys):
    _, dataset, _ = world
    _, _, pool, budget, asked = UNITS[unit]
    path, regions = selected(world, unit, tmp_path / "q.h5", budget=budget)
    queries = Queries(path)
    assert len(queries) == pool
    assert (queries.header.counts["asked"], queries.header.counts["shortfall"]) == (asked, asked - pool)
    assert f"{asked - pool} fewer than budgeted (no more were left)" in capsys.readouterr().out
    if unit == "best pixel":
        return  # other pixels of the regions are left
    ledger = annotate_simulate.run(dataset, path, tmp_path / "l.h5", AnnotateSettings(), None, regions)
    with pytest.raises(NothingLeft, match=r"^Nothing left to query: the ledger covers the whole pool\.$"):
        selected(world, unit, tmp_path / "more.h5", ledger=ledger, budget=1)
    assert not (tmp_path / "more.h5").exists()


POOLS = {"pixel": 240, "region": 18, "image": 3}
SERVED = [
    (part.name, unit)
    for part in RULES.parts()
    if part.facts["budget"] and not part.facts["needs"]
    for unit in part.facts["units"]
]


@pytest.mark.parametrize("name, unit", SERVED)
def test_every_rule_with_a_budget_does_so(name, unit, world, tmp_path):
    assert len(Queries(selected(world, unit, tmp_path / "q.h5", name, budget=1000)[0])) == POOLS[unit]


def test_a_budget_that_is_met_has_no_shortfall(world, tmp_path, capsys):
    queries = Queries(selected(world, "region", tmp_path / "q.h5", budget=18)[0])
    assert queries.header.counts["shortfall"] == 0
    assert "fewer than budgeted" not in capsys.readouterr().out
    everything = Queries(selected(world, "region", tmp_path / "all.h5", budget=0)[0])
    assert everything.header.counts["shortfall"] == 0
    assert (everything.region == queries.region).all()


def test_queries_of_other_inputs_do_not_stay_in_the_way_of_a_run(world, tmp_path):
    _, dataset, _ = world
    path, regions = selected(world, "region", tmp_path / "q.h5", budget=0)
    ledger = annotate_simulate.run(dataset, path, tmp_path / "l.h5", AnnotateSettings(), None, regions)
    with pytest.raises(BadInput, match=r"q\.h5 was made from other inputs\. Remove it and what was made") as refused:
        selected(world, "region", path, ledger=ledger, budget=1)
    assert not isinstance(refused.value, NothingLeft)
    assert len(Queries(path)) == 18


@pytest.mark.parametrize("budget, unspent", [(17, None), (18, None), (25, 7)])
def test_clicks_beyond_what_was_queried_are_told(budget, unspent, world, tmp_path, capsys):
    _, dataset, _ = world
    path, regions = selected(world, "region", tmp_path / "q.h5", budget=0)
    settings = AnnotateSettings(click_budget=budget)
    annotate_simulate.run(dataset, path, tmp_path / "l.h5", settings, None, regions)
    said = capsys.readouterr().out
    assert (", 7 clicks fewer than budgeted (no more were queried)" in said) == (unspent is not None)


def test_a_network_sees_no_difference(world, tmp_path):
    """Scores by a model, a budget beyond the pool: the ranks are those of the scores."""
    _, dataset, regions = world
    model = write_network(tmp_path / "m.safetensors", dataset)
    settings = ScoreSettings.load({"measure": "entropy", "unit": "region", "device": "cpu"})
    scores = score.run(dataset, tmp_path / "s.h5", settings, model, regions)
    queries = Queries(
        select.run(dataset, scores, tmp_path / "q.h5", SelectSettings(rule="top", budget=99), None, regions)
    )
    assert len(queries) == 18
    assert (np.diff(queries.read("queries/score")) <= 0).all()
