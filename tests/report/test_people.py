"""How far people agree: kappa by hand, by pairs, per class, and with known answers."""

import numpy as np
import pytest
from worlds import random_masks, random_round, write_dataset

from stages.artifacts.annotations import Annotations
from stages.artifacts.answers import Answers, Ledger
from stages.artifacts.hdf5 import build_in_memory
from stages.artifacts.header import Header, now
from stages.artifacts.publish import publish_bytes
from stages.artifacts.purposes import AGAIN
from stages.commands import annotate_simulate, score, select
from stages.reporting.people import gold_of, kappa, people_of
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings

# 50 queries answered twice: both road 20, road then tree 5, tree then road 10, both tree 15
TABLE = [("road", "road", 20), ("road", "tree", 5), ("tree", "road", 10), ("tree", "tree", 15)]
CLASSES = ["road", "tree", "sky"]


def ledger_of(path, first, second, people=(0, 1), **more):
    """Queries of pixels answered in round 0, and again in round 1 beside one new query."""
    count = len(first)
    columns = {
        "x": [*range(count), *range(count), count],
        "y": 0,
        "round": [0] * count + [1] * (count + 1),
        "label": [*first, *second, 0],
        "annotator": [people[0]] * count + [people[1]] * (count + 1),
        "purpose": [0] * count + [AGAIN] * count + [0],
    } | more
    made = Ledger(["a"], {"a": (1, 100)}, Answers.of(2 * count + 1, 3, **columns), ["Ben", "Ada"])

    def fill(writer):
        made.write(writer)
        return Header("annotations", "annotate", {}, {}, 0, attributes={"classes": CLASSES}, created=now())

    publish_bytes(path, build_in_memory(fill))
    return Annotations(path)


def labels(place):
    return [CLASSES.index(row[place]) for row in TABLE for _ in range(row[2])]


def test_kappa_by_hand():
    """Equal 35/50 = 0.7; by chance 0.5 x 0.6 + 0.5 x 0.4 = 0.5; kappa 0.2 / 0.5 = 0.4."""
    assert kappa(np.array(labels(0)), np.array(labels(1))) == pytest.approx(0.4)
    assert kappa(np.zeros(5), np.zeros(5)) is None
    assert kappa(np.zeros(0), np.zeros(0)) is None


def test_two_people(tmp_path):
    with ledger_of(tmp_path / "l.h5", labels(0), labels(1)) as ledger:
        (found,) = people_of(ledger)
    assert (found.who, found.queries, found.share) == ("Ada and Ben", 50, 0.7)
    assert found.kappa == pytest.approx(0.4)
    assert found.classes == pytest.approx({"road": 0.4, "tree": 0.4})


def test_one_person_who_answers_twice(tmp_path):
    with ledger_of(tmp_path / "l.h5", labels(0), labels(1), people=(1, 1)) as ledger:
        assert [each.who for each in people_of(ledger)] == ["Ada, twice"]


def test_three_people_by_pairs(tmp_path):
    """The second answers of odd queries are Ben's own, the others Ada's."""
    second = [1, 0] * 25
    with ledger_of(tmp_path / "l.h5", labels(0), labels(1), annotator=[0] * 50 + second + [1]) as ledger:
        found = people_of(ledger)
    assert [(each.who, each.queries) for each in found] == [("all", 50), ("Ada and Ben", 25), ("Ben, twice", 25)]
    assert found[0].share == 0.7


def test_dont_know_and_rounds_that_only_ask_again_are_left_out(tmp_path):
    state = [1] * 50 + [3] * 5 + [1] * 46
    with ledger_of(tmp_path / "l.h5", labels(0), labels(1), state=state) as ledger:
        assert people_of(ledger)[0].queries == 45
    with ledger_of(tmp_path / "o.h5", labels(0), labels(1), round=[0] * 50 + [1] * 50 + [2]) as ledger:
        assert people_of(ledger) == []


def test_void_and_classes_nobody_named(tmp_path):
    """Void is a category; a class that nobody named has no kappa, and is not listed."""
    first, second = [0, 0, 255, 255], [0, 255, 255, 255]
    state = [1, 1, 2, 2, 1, 2, 2, 2, 1]
    with ledger_of(tmp_path / "l.h5", first, second, state=state) as ledger:
        (found,) = people_of(ledger)
    assert found.share == 0.75
    assert found.classes == pytest.approx({"road": 0.5, "void": 0.5})  # (0.75 - 0.5) / (1 - 0.5)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """An annotator with errors answers 800 pixels of 20 images, 780 of them again, and 200 with known answers."""
    folder = tmp_path_factory.mktemp("people")
    names = [f"i{number}" for number in range(20)]
    dataset = write_dataset(folder / "d.h5", random_masks(names, (20, 20), 5, void=0), 5)
    errors = {"error_rate": 0.2, "error_from_round": 0}
    first = random_round(folder, dataset, 0, None, {"budget": 40}, errors)
    gold = random_round(folder, dataset, 1, None, {"budget": 10})
    scores = score.run(dataset, folder / "scores.h5", ScoreSettings(measure="random"))
    how = SelectSettings(budget=60, repeat=0.65, gold_share=1 / 6)
    queries = select.run(dataset, scores, folder / "q.h5", how, first, gold=gold)
    return Annotations(annotate_simulate.run(dataset, queries, folder / "l.h5", AnnotateSettings(**errors), first))


def test_errors_of_repeated_answers_are_independent(world):
    """With error rate e and C classes: equal (1 - e)^2 + e^2 / (C - 1) = 0.65, within three standard errors."""
    (found,) = people_of(world)
    assert (found.who, found.queries) == ("oracle, twice", 780)
    expected = 0.8**2 + 0.2**2 / 4
    assert abs(found.share - expected) < 3 * np.sqrt(expected * (1 - expected) / 780)
    assert found.kappa == pytest.approx((found.share - 0.2) / 0.8, abs=0.02)
    assert set(found.classes) == {f"class{number}" for number in range(5)}


def test_known_answers(world):
    """The gold is right, so people agree with it as often as they make no error."""
    (found,) = gold_of(world)
    assert (found.who, found.queries) == ("oracle", 200)
    assert abs(found.share - 0.8) < 3 * np.sqrt(0.8 * 0.2 / 200)


def test_known_answers_that_were_moved_are_not_compared(world, tmp_path):
    moved = tmp_path / "l.h5"
    moved.write_bytes(world.path.read_bytes())
    with Annotations(moved) as ledger:
        assert gold_of(ledger) == []
