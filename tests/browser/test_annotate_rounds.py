"""What people answered is a ledger like any other: later rounds, coarser grids, other readers."""

import shutil

import numpy as np
import pytest
from annotate_support import served

from stages.answering.questions import Questions
from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.queries import Queries
from stages.artifacts.verify import verify_files
from stages.commands import score, select
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings


@pytest.mark.slow
def test_a_second_round_is_appended(place):
    select.run(place / "d.h5", place / "ps.h5", place / "p1.h5", SelectSettings(budget=2), place / "p-simulated.h5")
    words = ("d.h5", "p1.h5", "--annotations", "p-simulated.h5", "-o", "a.h5", "--grace", "0")
    with served(*words, cwd=place) as server:
        client = server.client()
        situation = client.ask()
        while situation["state"] == "open":
            _, situation = client.answer(situation, classes=[3])
        client.post("/leave")
        assert server.end()[0] == 0
    before, after = Annotations(place / "p-simulated.h5"), Annotations(place / "a.h5")
    assert len(after.answers) == len(before.answers) + 12
    assert np.array_equal(after.answers.label[:60], before.answers.label)
    assert (after.answers.label[60:] == 3).all()
    assert (after.answers.round[60:] == 1).all()
    assert {after.annotators[number] for number in after.answers.annotator[60:]} == {"somebody"}
    verify_files([place / "a.h5"])
    following = select.run(place / "d.h5", place / "ps.h5", place / "p2.h5", SelectSettings(budget=2), place / "a.h5")
    assert Queries(following).round == 2


def test_pixels_of_a_coarser_grid_are_shown_where_their_truth_is_read(place):
    scores = score.run(place / "d.h5", place / "g.h5", ScoreSettings(measure="random", grid_scale=0.3))
    queries = Queries(select.run(place / "d.h5", scores, place / "q.h5", SelectSettings(rule="uniform", budget=9)))
    data = Dataset(place / "d.h5")
    questions = Questions(data, queries, None)
    for query in range(len(queries)):
        shown = questions.shown(query)
        truth = data.mask(shown["image"], shown["grid"])[shown["y"], shown["x"]]
        assert data.mask(shown["image"])[tuple(shown["pixel"])] == truth


@pytest.mark.slow
def test_a_ledger_of_another_kind_at_the_same_place_may_be_replaced(place):
    shutil.copy(place / "p-simulated.h5", place / "a.h5")
    with served("d.h5", "i.h5", "-o", "a.h5", "--grace", "0", cwd=place) as server:
        assert "rebuilding a.h5: it was written by annotate-simulate" in server.told
