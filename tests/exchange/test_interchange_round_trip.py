"""What is exported and imported again is what it was, in every format that can hold it."""

import numpy as np
import pytest

from stages.artifacts.annotations import Annotations
from stages.artifacts.opening import read_any_header
from stages.artifacts.queries import Queries
from stages.commands import export_queries, import_answers
from stages.runtime.errors import BadInput
from stages.settings.import_answers import ImportSettings

TABLES, PAINTED = ("t.csv", "t.json"), ("t.coco.json", "masks")
PAINTABLE = ["pixel", "pixel-coarse", "dominant", "dominant-coarse", "class-set", "precise", "mask"]
NAMED = ["pixel", "pixel-coarse", "dominant", "dominant-coarse", "class-set", "image-class", "image-classes"]
PAIRS = [(kind, name) for kind in NAMED for name in TABLES] + [
    (kind, name) for kind in PAINTABLE for name in PAINTED if (kind, name) != ("class-set", "masks")
]


def exported(one, output, ledger=None):
    return export_queries.run(one.dataset, one.queries, output, one.regions, ledger)


def imported(one, answers, output, **settings):
    made = ImportSettings(**settings)
    return import_answers.run(one.dataset, one.queries, answers, output, made, superpixels=one.regions)


@pytest.mark.parametrize("kind, name", PAIRS)
def test_answers_come_back_as_they_went(kind, name, asked, same, tmp_path):
    one = asked[kind]
    answers = exported(one, tmp_path / name, one.ledger)
    found = imported(one, answers, tmp_path / "a.h5")
    # Painted files tell no time, and the clicks of exact labels are those of what they show
    same(found, one.ledger, but=() if name in TABLES else ("seconds", "clicks") if kind == "precise" else ("seconds",))
    people = Annotations(found)
    assert people.header.counts["open"] == 0
    assert people.annotators == (["oracle"] if name in TABLES else ["person"])
    if kind == "precise":
        assert np.array_equal(people.answers.votes, Annotations(one.ledger).answers.votes)
        assert (people.answers.clicks >= 1).all()


@pytest.mark.parametrize("kind, name", PAIRS)
def test_open_queries_stay_open(kind, name, asked, same, tmp_path):
    """A simulation that runs out of clicks leaves some; they are exported as open, and are open when imported."""
    one = asked[kind]
    costs = {"mask": {"clicks_per_mask": 1}}.get(kind, {})
    budget = {"mask": 2, "image-class": 2, "image-classes": 4, "precise": 150}.get(kind, 20)
    some = one.simulated(tmp_path / "some.h5", click_budget=budget, **costs)
    number, every = len(Annotations(some).answers), len(Queries(one.queries))
    assert 0 < number < every
    answers = exported(one, tmp_path / name, some)
    found = imported(one, answers, tmp_path / "a.h5", **costs)
    same(found, some, but=("seconds", "clicks"))
    assert read_any_header(found).counts["open"] == every - number


@pytest.mark.parametrize("kind, name", [*PAIRS, ("class-set", "masks")])
def test_a_fresh_export_holds_no_answer(kind, name, asked, tmp_path):
    one = asked[kind]
    with pytest.raises(BadInput, match=r"contains no answers|answers no query of"):
        imported(one, exported(one, tmp_path / name), tmp_path / "a.h5")
    assert not (tmp_path / "a.h5").exists()


def test_the_classes_of_a_set_do_not_fit_into_a_png(asked, tmp_path):
    one = asked["class-set"]
    with pytest.raises(BadInput, match=r"names several classes, but a pixel of a PNG has one"):
        exported(one, tmp_path / "masks", one.ledger)
    assert not (tmp_path / "masks").exists()


@pytest.mark.parametrize("kind", ["precise", "mask"])
@pytest.mark.parametrize("name", TABLES)
def test_exact_labels_do_not_fit_into_a_table(kind, name, asked, tmp_path):
    with pytest.raises(BadInput, match=r"which do not fit into a table\. Use COCO"):
        exported(asked[kind], tmp_path / name)


@pytest.mark.parametrize("kind", ["image-class", "image-classes"])
@pytest.mark.parametrize("name", PAINTED)
def test_classes_of_images_are_not_painted(kind, name, asked, tmp_path):
    with pytest.raises(BadInput, match=r"which cannot be painted\. Use \.csv or \.json"):
        exported(asked[kind], tmp_path / name)


def test_a_second_round_follows_the_first(asked, tmp_path):
    """Answers come behind those of the ledger before, and only those of this round are exported."""
    from stages.commands import annotate_simulate, score, select
    from stages.settings.annotate_simulate import AnnotateSettings
    from stages.settings.score import ScoreSettings
    from stages.settings.select import SelectSettings

    one = asked["precise"]
    scores = score.run(
        one.dataset,
        tmp_path / "s.h5",
        ScoreSettings(measure="random", unit="region", seed=1),
        superpixels=one.regions,
        annotations=one.ledger,
    )
    settings = SelectSettings(rule="top", budget=20, answer="precise")
    queries = select.run(one.dataset, scores, tmp_path / "q.h5", settings, one.ledger, superpixels=one.regions)
    truth = annotate_simulate.run(
        one.dataset, queries, tmp_path / "truth.h5", AnnotateSettings(), one.ledger, superpixels=one.regions
    )
    answers = export_queries.run(one.dataset, queries, tmp_path / "t.coco.json", one.regions, truth)
    found = Annotations(
        import_answers.run(
            one.dataset, queries, answers, tmp_path / "a.h5", ImportSettings(), one.ledger, superpixels=one.regions
        )
    )
    expected = Annotations(truth)
    assert found.answers.round.tolist() == expected.answers.round.tolist()
    for image in expected.ids:
        assert np.array_equal(found.label_map(image), expected.label_map(image))
    for asked_queries, ledger in ((one.queries, truth), (queries, one.ledger)):
        with pytest.raises(BadInput, match=r"was not made from .*q\.h5\. Pass the ledger of these queries"):
            export_queries.run(one.dataset, asked_queries, tmp_path / "none.coco.json", one.regions, ledger)
