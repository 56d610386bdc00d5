"""Budgets and random streams of rounds: a first budget of its own, legacy streams that never collide."""

from itertools import product

import numpy as np
import pytest
from worlds import random_masks, write_dataset

from stages.artifacts.queries import Queries
from stages.commands import annotate_simulate, score, select
from stages.runtime.parts import RULES
from stages.selecting.candidates import Candidates
from stages.selecting.chooser import Chooser
from stages.selecting.rules.clusters import ClustersSettings, describe
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings

NAMES = ["a", "b"]


def chooser(seed, round_number):
    return Chooser(RULES["uniform"], None, round_number, seed, legacy=True)


def test_round_0_of_the_legacy_stream_is_the_published_one():
    assert chooser(7, 0).generator("a").randint(1 << 30) == np.random.RandomState(7).randint(1 << 30)


def test_no_two_rounds_of_any_seeds_share_a_legacy_stream():
    """Seed 1 in round 0 and seed 0 in round 1 must differ; seeds and rounds must not be added."""
    pairs = list(product(range(6), range(6)))
    draws = {tuple(chooser(*pair).generator("a").randint(1 << 30, size=2)) for pair in pairs}
    assert len(draws) == len(pairs)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    data = write_dataset(folder / "d.h5", random_masks(NAMES, (12, 10), 3), 3)
    return folder, data, score.run(data, folder / "scores.h5", ScoreSettings(measure="random"))


def test_the_first_round_can_have_a_budget_of_its_own(world):
    """The study of PixelPick with 1, 11, 21, ... pixels (spec pixelpick.md 1.3, 6)."""
    folder, data, scores = world
    settings = SelectSettings(rule="uniform", budget=10, first_budget=1)
    ledger = None
    for number, queried in enumerate((1, 10, 10)):
        path = select.run(data, scores, folder / f"queries-{number}.h5", settings, annotations=ledger)
        counts = Queries(path).header.counts
        assert (counts["queries"], counts["asked"]) == (2 * queried, 2 * queried)
        ledger = annotate_simulate.run(data, path, folder / f"ledger-{number}.h5", AnnotateSettings(), ledger)


def test_without_one_all_rounds_have_the_same(world):
    folder, data, scores = world
    path = select.run(data, scores, folder / "plain.h5", SelectSettings(rule="uniform", budget=3))
    assert Queries(path).header.counts["queries"] == 6


@pytest.mark.parametrize("budget, warns", [(4, True), (9, False)])
def test_a_budget_below_the_number_of_clusters_warns(budget, warns, capsys, monkeypatch):
    monkeypatch.setattr("stages.selecting.rules.clusters.cluster_scores", lambda kind, tables: np.ones(9))
    pool = Candidates(unit="region", scores=np.ones(9), image=np.zeros(9, int), total=9, lazy={"tables": lambda: None})
    found = describe(pool, budget, ClustersSettings())
    assert sum(found["cluster_budget"]) == budget
    assert max(found["cluster_budget"]) == 1  # remainder reference: 4 to the first cluster
    told = capsys.readouterr().out
    assert ("the budget of 4 is below the 9 clusters, so some get no query. Raise --budget" in told) == warns
    spent = describe(pool, budget, ClustersSettings(remainder="reference"))["cluster_budget"]
    assert spent[0] == (4 if warns else 1)
