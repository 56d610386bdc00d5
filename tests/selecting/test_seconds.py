"""Budgets in annotation seconds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import random_masks, region_round, write_dataset, write_network, write_superpixels

from stages.artifacts.annotations import Annotations
from stages.artifacts.queries import Queries
from stages.artifacts.scores import Scores
from stages.commands import annotate_simulate, score, select
from stages.runtime.errors import BadInput
from stages.runtime.parts import RULES
from stages.selecting.candidates import Candidates
from stages.selecting.chooser import Chooser
from stages.selecting.seconds import Allowance, allowance, largest_fitting
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import AssumedSeconds, SelectSettings

NAMES = ["a", "b", "c"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    dataset = write_dataset(folder / "d.h5", random_masks(NAMES, (16, 24), 3, void=0), 3)
    base = write_superpixels(folder, dataset)
    network = write_network(folder / "n.safetensors", dataset)
    regions = score.run(dataset, folder / "r.h5", ScoreSettings(unit="region", device="cpu"), network, base)
    return {
        "folder": folder,
        "dataset": dataset,
        "base": base,
        "pixel": score.run(dataset, folder / "p.h5", ScoreSettings(measure="random")),
        "image": score.run(dataset, folder / "i.h5", ScoreSettings(measure="random", unit="image")),
        "region": regions,
    }


def chosen(world, unit, ledger=None, **settings):
    values = SelectSettings.load({"rule": "top", **settings})
    base = world["base"] if unit == "region" else None
    path = select.run(world["dataset"], world[unit], world["folder"] / "q.h5", values, ledger, base, force=True)
    return Queries(path)


def top_of(scores, cost, seconds, spent=()):
    pool = Candidates(unit="region", scores=np.array(scores), image=np.zeros(len(scores), int), total=len(scores))
    allowed = Allowance(seconds, np.array(cost, float))
    index = np.setdiff1d(np.arange(len(cost)), spent)
    return allowed.positions(Chooser(RULES["top"], None, 1), pool, index, np.array(spent, int)).tolist()


class TestByHand:
    def test_the_most_score_per_second_as_long_as_the_seconds_last(self):
        """Scores 4, 3, 2, 1 in 4, 1, 2, 0.5 s are 1, 3, 1, 2 per second; equal ones in order."""
        assert top_of([4, 3, 2, 1], [4, 1, 2, 0.5], 1.5) == [1, 3]
        assert top_of([4, 3, 2, 1], [4, 1, 2, 0.5], 5.5) == [1, 3, 0]
        assert top_of([4, 3, 2, 1], [4, 1, 2, 0.5], 100) == [1, 3, 0, 2]

    def test_equal_seconds_change_no_order(self):
        assert top_of([1, 4, 3], [2, 2, 2], 5) == [1, 2]

    def test_what_other_queries_take_is_subtracted(self):
        pool = Candidates(unit="region", scores=np.array([3.0, 2.0]), image=np.zeros(2, int), total=3)
        allowed = Allowance(3, np.array([1.0, 1.0, 2.0]))
        assert allowed.positions(Chooser(RULES["top"], None, 1), pool, np.arange(2), np.array([2])).tolist() == [0]

    def test_a_budget_below_one_query(self):
        with pytest.raises(BadInput, match=r"^--budget-seconds 0\.4 pays for no query: one takes 0\.5 s or more\. Ra"):
            top_of([4, 3], [4, 0.5], 0.4)

    @given(st.lists(st.sampled_from([0.5, 1.0, 2.0, 7.0]), min_size=1, max_size=20), st.floats(0, 60))
    def test_it_never_exceeds_the_budget_and_leaves_no_room_for_the_next(self, cost, most):
        cost = np.array(cost)
        found = largest_fitting(np.arange, cost, most, len(cost))
        assert cost[found].sum() <= most
        assert len(found) == len(cost) or cost[: len(found) + 1].sum() > most


class TestWhatQueriesTake:
    def of(self, world, unit, answer, ledger=None, **assumed):
        opened = None if ledger is None else Annotations(ledger)
        return allowance(100, Scores(world[unit]), opened, answer, AssumedSeconds(**assumed)).each

    def test_assumed_until_there_are_answers(self, world):
        assert self.of(world, "pixel", "class").tolist() == [1.0]
        assert self.of(world, "pixel", "class", seconds_per_click=2.5).tolist() == [2.5]
        assert self.of(world, "image", "mask", seconds_per_mask=60).tolist() == [60.0] * 3
        assert set(self.of(world, "region", "dominant")) == {1.0}

    def test_a_click_per_predicted_class(self, world):
        classes = np.diff(Scores(world["region"]).read("histogram/offsets"))
        assert len(set(classes)) > 1
        assert (self.of(world, "region", "class-set", seconds_per_click=3) == 3.0 * classes).all()

    def test_measured_in_the_ledger(self, world):
        settings = AnnotateSettings(seconds_per_click=4)
        queries = chosen(world, "pixel", rule="uniform", budget=2).path
        ledger = annotate_simulate.run(world["dataset"], queries, world["folder"] / "slow.h5", settings)
        assert self.of(world, "pixel", "class", ledger).tolist() == [4.0]
        assert self.of(world, "image", "mask", ledger, seconds_per_mask=60).tolist() == [60.0] * 3  # no masks yet

    def test_exact_labels_by_those_before(self, world):
        with pytest.raises(BadInput, match=r"^--budget-seconds needs earlier exact labels .* or use --budget\.$"):
            self.of(world, "region", "precise")
        folder = world["folder"] / "exact"
        folder.mkdir()
        ledger = region_round(folder, world["dataset"], 0, world["base"], select_settings={"answer": "precise"})
        clicks = Annotations(ledger).answers.clicks
        assert set(self.of(world, "region", "precise", ledger)) == {float(clicks.mean(dtype=np.float64))}
        assert set(self.of(world, "region", "dominant", ledger)) == {1.0}


class TestQueries:
    def test_pixels_of_all_images_in_equal_shares(self, world):
        queries = chosen(world, "pixel", budget_seconds=14.5, seconds_per_click=2)
        assert sorted(np.bincount(queries.image).tolist()) == [2, 2, 3]
        counts = queries.header.counts
        assert (counts["queries"], counts["asked"], counts["shortfall"], counts["seconds"]) == (7, 7, 0, 14.0)

    def test_pixels_anywhere(self, world):
        assert len(chosen(world, "pixel", budget_seconds=5, scope="dataset")) == 5

    def test_class_sets_within_the_seconds(self, world):
        queries = chosen(world, "region", budget_seconds=9, answer="class-set")
        classes = np.diff(Scores(world["region"]).read("histogram/offsets"))
        assert queries.header.counts["seconds"] == classes[queries.region].sum() <= 9
        everything = chosen(world, "region", budget_seconds=1e6, answer="class-set")
        assert len(everything) == len(classes)

    def test_masks(self, world):
        assert len(chosen(world, "image", budget_seconds=130, seconds_per_mask=60)) == 2

    @pytest.mark.parametrize("unit, settings", [("pixel", {}), ("region", {}), ("image", {"seconds_per_mask": 1})])
    def test_less_than_one_query_is_refused(self, world, unit, settings):
        with pytest.raises(BadInput, match=r"^--budget-seconds 0\.5 pays for no query: one takes 1 s or more\. Raise"):
            chosen(world, unit, budget_seconds=0.5, **settings)

    def test_refusals(self, world):
        with pytest.raises(BadInput, match=r"^Rule answered has no budget\. Omit --budget-seconds\.$"):
            chosen(world, "image", rule="answered", budget_seconds=5)
        with pytest.raises(BadInput, match="budget_seconds replaces ratio; set ratio none"):
            chosen(world, "image", budget_seconds=5, ratio=0.5)
        with pytest.raises(BadInput, match="seconds-per-click does not apply to budget-seconds none"):
            chosen(world, "pixel", seconds_per_click=5)
