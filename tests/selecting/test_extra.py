"""Queries that no rule chooses: a simple random sample, earlier queries once more, queries with known answers."""

import numpy as np
import pytest
from worlds import random_masks, random_round, region_round, write_dataset, write_superpixels

from stages.artifacts.annotations import Annotations
from stages.artifacts.purposes import AGAIN, CONTROL, GOLD
from stages.artifacts.queries import Queries
from stages.artifacts.scores import Scores
from stages.commands import score, select
from stages.runtime.errors import BadInput, NothingLeft
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings

IMAGES, BUDGET = 10, 20


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Ten images of 12 x 16 pixels and a first round of 200 pixels without extra queries."""
    folder = tmp_path_factory.mktemp("extra")
    names = [f"i{number}" for number in range(IMAGES)]
    dataset = write_dataset(folder / "d.h5", random_masks(names, (12, 16), 4, void=0), 4)
    first = random_round(folder, dataset, 0, None, {"budget": BUDGET})
    scores = score.run(dataset, folder / "scores.h5", ScoreSettings(measure="random", seed=5))
    return folder, dataset, first, scores


def selected(world, output, gold=None, **settings):
    _, dataset, first, scores = world
    return Queries(select.run(dataset, scores, output, SelectSettings(**settings), first, gold=gold))


def flat(queries):
    return queries.image.astype(np.int64) * 192 + queries.y * 16 + queries.x


def places(answers):
    return set((answers.image.astype(np.int64) * 192 + answers.y * 16 + answers.x).tolist())


@pytest.mark.parametrize("scope", ["image", "dataset"])
def test_shares_of_the_budget(world, tmp_path, scope):
    """Of 200 queries 20 at random, 10 again, 20 gold; the rest by score, and each pixel once."""
    gold = random_round(tmp_path, world[1], 7, None, {"budget": 5})
    how = {"budget": BUDGET, "scope": scope, "rule": "top", "control": 0.1, "repeat": 0.05, "gold_share": 0.1}
    queries = selected(world, tmp_path / "q.h5", gold, **how)
    assert np.bincount(queries.purpose).tolist() == [150, 20, 10, 20]
    assert len(np.unique(flat(queries))) == 200
    if scope == "image":
        assert np.bincount(queries.image).tolist() == [BUDGET] * IMAGES
    asked = {name: set(flat(queries)[queries.purpose == name].tolist()) for name in range(4)}
    before, known = (places(Annotations(path).answers) for path in (world[2], gold))
    assert asked[AGAIN] <= before
    assert asked[GOLD] <= known
    assert not (asked[0] | asked[CONTROL]) & before
    with Scores(world[3]) as scores:
        values = np.stack([scores.map(image).ravel() for image in scores.ids]).ravel()
    assert queries.read("queries/score").tolist() == values[flat(queries)].tolist()


def test_the_control_sample_does_not_depend_on_scores(world, tmp_path):
    """The same pixels whatever is scored, and spread evenly: the mean of their scores is that of the pool."""
    how = {"budget": BUDGET, "rule": "top", "control": 0.5}
    found = selected(world, tmp_path / "q.h5", **how)
    other = score.run(world[1], tmp_path / "s.h5", ScoreSettings(measure="random", seed=6))
    again = Queries(select.run(world[1], other, tmp_path / "q2.h5", SelectSettings(**how), world[2]))
    drawn = [set(flat(each)[each.purpose == CONTROL].tolist()) for each in (found, again)]
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 100
    mean = found.read("queries/score")[found.purpose == CONTROL].mean()
    assert abs(mean - 0.5) < 3 * np.sqrt(1 / 12 / 100)
    assert found.read("queries/score")[found.purpose == 0].mean() > 0.9


def test_without_shares_there_is_no_column(world, tmp_path):
    queries = selected(world, tmp_path / "q.h5", budget=2)
    assert "queries/purpose" not in queries
    ledger = Annotations(world[2])
    assert "answers/purpose" not in ledger
    assert ledger.in_force.all()


def test_regions(tmp_path):
    dataset = write_dataset(tmp_path / "d.h5", random_masks(["a", "b"], (16, 32), 3, void=0), 3)
    regions = write_superpixels(tmp_path, dataset, region_pixels=16)
    first = region_round(tmp_path, dataset, 0, regions, select_settings={"budget": 20})
    mixed = {"budget": 20, "control": 0.2, "repeat": 0.3}
    ledger = Annotations(region_round(tmp_path, dataset, 1, regions, first, select_settings=mixed))
    asked = ledger.answers.region[20:]
    purpose = ledger.answers.purpose[20:]
    assert np.bincount(purpose).tolist() == [10, 4, 6]
    assert set(asked[purpose == AGAIN]) <= set(ledger.answers.region[:20])
    assert not set(asked[purpose != AGAIN]) & set(ledger.answers.region[:20])
    assert ledger.in_force.sum() == 34


def test_again_asks_for_what_was_answered_once(world, tmp_path):
    """The 15 answered pixels with the highest scores, then the next ones, until none is left."""
    _, dataset, first, scores = world
    ledger, seen = first, []
    for number, budget in enumerate((15, 0)):
        how = SelectSettings(again=True, budget=budget)
        queries = Queries(select.run(dataset, scores, tmp_path / f"q{number}.h5", how, ledger))
        assert (queries.purpose == AGAIN).all()
        seen.append(flat(queries).tolist())
        values = queries.read("queries/score")
        assert (np.diff(values) <= 0).all()
        ledger = annotate(dataset, queries.path, tmp_path / f"l{number}.h5", ledger)
    assert [len(each) for each in seen] == [15, 185]
    assert not set(seen[0]) & set(seen[1])
    with pytest.raises(NothingLeft, match="everything that was answered was queried again"):
        select.run(dataset, scores, tmp_path / "q9.h5", SelectSettings(again=True), ledger)


def annotate(dataset, queries, output, before, **settings):
    from stages.commands import annotate_simulate
    from stages.settings.annotate_simulate import AnnotateSettings

    return annotate_simulate.run(dataset, queries, output, AnnotateSettings(**settings), before)


def test_a_later_answer_counts_and_gold_never_does(world, tmp_path):
    """Wrong first answers, right ones the second time: labels are those of the masks where asked again."""
    folder, dataset, _, _ = world
    wrong = random_round(tmp_path, dataset, 0, None, {"budget": 4}, {"error_rate": 1.0, "error_from_round": 0})
    gold = random_round(folder, dataset, 1, None, {"budget": 2}, {"seed": 9})
    scores = tmp_path / "scores0.h5"
    how = SelectSettings(budget=8, repeat=0.25, gold_share=0.125)
    queries = select.run(dataset, scores, tmp_path / "q.h5", how, wrong, gold=gold)
    ledger = Annotations(annotate(dataset, queries, tmp_path / "l.h5", wrong))
    answers = ledger.answers
    assert np.bincount(answers.purpose[40:]).tolist() == [50, 0, 20, 10]
    assert ledger.in_force.sum() == 40 + 50
    assert ledger.cost()["answers"] == 120
    again = answers.purpose == AGAIN
    for row in np.flatnonzero(again).tolist():
        image, y, x = ledger.ids[answers.image[row]], answers.y[row], answers.x[row]
        assert ledger.label_map(image)[y, x] == answers.label[row]
    labelled = sum(int((ledger.label_map(image) != 255).sum()) for image in ledger.ids)
    assert labelled == ledger.in_force.sum()  # each pixel once, and none of those that only gold was asked about


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"control": 0.6, "repeat": 0.6}, "control, repeat and gold_share must sum to at most 1"),
        ({"again": True, "control": 0.1}, "control"),
    ],
)
def test_settings_that_do_not_go_together(settings, sentence):
    with pytest.raises(Exception, match=sentence):
        SelectSettings.load(settings)


def test_again_needs_a_ledger(world, tmp_path):
    with pytest.raises(BadInput, match=r"--again queries what was answered\. Pass the ledger with --annotations\."):
        select.run(world[1], world[3], tmp_path / "q.h5", SelectSettings(again=True))


def test_masks_are_not_asked_twice(world, tmp_path):
    scores = score.run(world[1], tmp_path / "s.h5", ScoreSettings(measure="random", unit="image"))
    with pytest.raises(BadInput, match="only queries whose answer names classes are asked twice"):
        select.run(world[1], scores, tmp_path / "q.h5", SelectSettings(rule="top", budget=2, repeat=0.5))
    drawn = Queries(select.run(world[1], scores, tmp_path / "q.h5", SelectSettings(rule="top", budget=4, control=0.5)))
    assert drawn.purpose.tolist() == [1, 1, 0, 0]


def test_the_budget_is_kept_where_an_image_gets_more_than_its_share(world, tmp_path):
    queries = selected(world, tmp_path / "q.h5", budget=1, control=0.5)
    assert np.bincount(queries.purpose).tolist() == [5, 5]
    assert np.bincount(queries.image[queries.purpose == CONTROL]).max() > 1
