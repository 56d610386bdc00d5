"""Nothing but people's own answers replaces theirs: the journal rebuilds a ledger, and no answer is orphaned."""

import json
import shutil

import h5py
import numpy as np
import pytest
from annotate_support import Truth

from stages.answering.answer import Answer
from stages.answering.browser import serving
from stages.answering.browser.suggestions import Suggestion, suggested
from stages.answering.questions import Questions
from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.journals import find_journals, journal_path
from stages.artifacts.queries import Queries
from stages.artifacts.request import Request, refer
from stages.artifacts.verify import verify_files
from stages.commands import annotate, annotate_simulate, score, select
from stages.runtime.errors import BadInput, Stopped
from stages.settings.annotate import PeopleSettings
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings

CLASS = 3  # that the person here always names


class Person:
    """Stands for the page: answers some queries, then finishes or is stopped."""

    def __init__(self, place, monkeypatch):
        self.place, self.most, self.finishes = place, 0, False
        self.asked, self.label, self.again, self.suggested = [], CLASS, False, -1
        monkeypatch.setattr(serving, "serve", self.serve)

    def serve(self, session, host, port, publish):
        situation = session.ask("page", "Ada")
        for _ in range(self.most):
            if self.again:  # the answer that was changed longest ago
                oldest = session.review("page", "Ada")["answers"][-1]["query"]
                situation = session.reopen("page", "Ada", oldest)
            query = situation["question"]["query"]
            self.asked.append(query)
            given = {"classes": (self.label,), "suggested": self.suggested}
            if session.masks is not None:
                mask = session.questions.data.mask(session.questions.image(query))
                session.masks.keep(query, np.zeros_like(mask))  # changed their mind
                given = {"mask": session.masks.keep(query, mask)}
            values = {"query": query, **session.questions.place(query), "seconds": 1.0, "annotator": "Ada", **given}
            situation = session.answer("page", Answer(**values), situation["revision"])
        if not self.finishes:
            return False
        session.close()
        publish()
        return True

    def answers(self, queries="p.h5", most=5, finishes=True, output="a.h5", ledger=None, **settings):
        self.most, self.finishes = most, finishes
        place = self.place
        before = None if ledger is None else place / ledger
        made = PeopleSettings(**settings)
        return annotate.run(place / "d.h5", place / queries, place / output, made, annotations=before)

    def stops(self, **settings):
        with pytest.raises(Stopped):
            self.answers(finishes=False, **settings)


@pytest.fixture
def person(place, monkeypatch):
    return Person(place, monkeypatch)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def empty(path):
    path.write_bytes(b"")


def flip_header(path):
    with h5py.File(path, "r+") as file:
        file.attrs["seed"] = 7


def flip_answers(path):
    with h5py.File(path, "r+") as file:
        file["answers/class"][...] += 1


DAMAGES = [truncate, empty, flip_header, flip_answers]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("queries", ["p.h5", "k.h5"])
def test_a_damaged_ledger_is_rebuilt_from_the_journal(damage, queries, place, person, capsys):
    """Some queries stayed open, and nobody is asked them again."""
    output = person.answers(queries)
    digest, name = Annotations(output).digest, "a.h5.damaged-1"
    damage(output)
    damaged = output.read_bytes()
    with pytest.raises(BadInput):
        verify_files([output])
    person.answers(queries)
    assert Annotations(output).digest == digest
    assert len(person.asked) == 5
    assert f"a.h5 is damaged and was moved to {place / name}" in capsys.readouterr().out
    assert (place / name).read_bytes() == damaged
    verify_files([output])


def test_a_ledger_behind_a_link_has_its_journal_beside_it(place, person):
    """The ledger is damaged and rebuilt, and the journal goes after the next round; the link stays."""
    link, ledger = place / "a.h5", place / "real" / "l.h5"
    ledger.parent.mkdir()
    link.symlink_to(ledger)
    person.answers()
    (journal,) = find_journals(ledger)
    digest = Annotations(link).digest
    truncate(ledger)
    person.answers()
    assert link.is_symlink()
    assert ledger.with_name("l.h5.damaged-1").is_file()
    assert Annotations(link).digest == digest
    select.run(place / "d.h5", place / "ps.h5", place / "p1.h5", SelectSettings(budget=2), link)
    annotate_simulate.run(place / "d.h5", place / "p1.h5", place / "a1.h5", AnnotateSettings(), link)
    assert not journal.exists()


def test_a_missing_ledger_is_rebuilt_from_the_journal(place, person):
    output = person.answers()
    digest = Annotations(output).digest
    output.unlink()
    person.answers()
    assert Annotations(output).digest == digest
    assert len(person.asked) == 5


@pytest.mark.parametrize("damage", [truncate, flip_header, flip_answers])
def test_without_a_journal_nothing_replaces_what_may_be_answers_of_people(damage, place, person):
    output = person.answers()
    shutil.rmtree(place / "a.h5.work")
    damage(output)
    before = output.read_bytes()
    for force in (False, True):
        with pytest.raises(BadInput, match="answers given by people, which no command can recreate"):
            annotate_simulate.run(place / "d.h5", place / "p.h5", output, AnnotateSettings(), force=force)
    if damage is not flip_answers:  # whose header is whole
        with pytest.raises(BadInput, match="answers given by people, which no command can recreate"):
            person.answers()
    assert output.read_bytes() == before


def test_no_stage_writes_where_a_journal_of_answers_is(place, person):
    output = person.answers()
    truncate(output)
    before = output.read_bytes()
    with pytest.raises(BadInput, match=r"journal-\w+\.jsonl holds answers that people gave for .*a\.h5\. Run `alseg"):
        score.run(place / "d.h5", output, ScoreSettings(measure="random"))
    assert output.read_bytes() == before
    output.unlink()
    with pytest.raises(BadInput, match="holds answers that people gave"):
        annotate_simulate.run(place / "d.h5", place / "p.h5", output, AnnotateSettings())
    assert not output.exists()


def test_a_damaged_ledger_of_the_simulation_is_built_again_while_its_stage_can_be_read(place):
    output = place / "s.h5"
    annotate_simulate.run(place / "d.h5", place / "p.h5", output, AnnotateSettings())
    digest = Annotations(output).digest
    flip_header(output)
    annotate_simulate.run(place / "d.h5", place / "p.h5", output, AnnotateSettings())
    assert Annotations(output).digest == digest


def test_answers_are_changed_once_the_ledger_is_written(place, person, capsys):
    """On demand; an interruption is gone on with; a later round that does not have the change keeps the journal."""
    output = person.answers(finishes=True)
    first = Annotations(output).answers
    person.answers(most=0)
    assert f"{output} is up to date" in capsys.readouterr().out
    person.label = CLASS + 1
    person.again = True
    person.stops(most=2, edit=True)
    changed = person.asked[-2:]
    assert np.array_equal(Annotations(output).answers.label, first.label), "nothing is written before Finish"
    select.run(place / "d.h5", place / "ps.h5", place / "p1.h5", SelectSettings(budget=2), output)
    annotate_simulate.run(place / "d.h5", place / "p1.h5", place / "a1.h5", AnnotateSettings(), output)
    assert len(find_journals(output)) == 1, "it has answers that no ledger has"
    person.answers(most=1)  # without the option
    changed.append(person.asked[-1])
    answers = Annotations(output).answers
    assert len(answers) == len(first) == 5
    label = dict(zip(sorted(set(person.asked)), answers.label.tolist(), strict=True))
    assert label == {query: CLASS + (query in changed) for query in person.asked}
    verify_files([output])
    person.answers(most=0)
    assert f"{output} is up to date" in capsys.readouterr().out


def test_what_a_model_suggested_is_recorded(place, person, tmp_path):
    """By hand: of two classes at each pixel the likelier one; the ledger has the column only where it was used."""
    truth = Truth(place, "p.h5")
    questions = Questions(truth.data, truth.queries, None)

    class Predictor:
        def probabilities(self, images):
            shape = images.shape[-2:]
            likely = (images[:, :1].float() / 255).expand(1, len(questions.classes), *shape) * 0
            likely[:, 4], likely[:, 6] = 0.25, images[:, 0] / 255
            return likely

    image = next(iter(questions.rows))
    found = suggested(Predictor(), questions, image)
    pixels = truth.data.image(image)[..., 0]
    for query in questions.rows[image].tolist():
        red = pixels[truth.queries.y[query], truth.queries.x[query]] / 255
        assert found[query] == Suggestion(6 if red > 0.25 else 4, round(100 * max(red, 0.25)))
    plain = Annotations(person.answers())
    assert "answers/suggested" not in plain
    person.suggested = 6
    ledger = Annotations(person.answers(output="b.h5"))
    assert ledger.answers.suggested.tolist() == [6] * 5
    assert ledger.answers.label.tolist() == [CLASS] * 5
    followed = select.run(place / "d.h5", place / "ps.h5", place / "p1.h5", SelectSettings(budget=1), place / "b.h5")
    after = annotate_simulate.run(place / "d.h5", followed, place / "b1.h5", AnnotateSettings(), place / "b.h5")
    assert set(Annotations(after).answers.suggested[5:].tolist()) == {255}


def test_a_ledger_whose_answers_the_journal_lacks_is_not_written_again(place, person):
    output = person.answers()
    before = output.read_bytes()
    (journal,) = find_journals(output)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], *lines[3:]]))
    with pytest.raises(BadInput, match=r"lacks 1 answers that .*a\.h5 contains, so it cannot be written again"):
        person.answers(edit=True)
    journal.unlink()
    with pytest.raises(BadInput, match=r"has no journal of its answers any more: a later ledger contains them"):
        person.answers(edit=True)
    assert output.read_bytes() == before


def test_the_journal_goes_once_a_later_ledger_has_its_answers(place, person):
    person.stops(queries="m.h5", most=2)
    (other,) = find_journals(place / "a.h5")
    first = person.answers()
    (journal,) = set(find_journals(first)) - {other}
    select.run(place / "d.h5", place / "ps.h5", place / "p1.h5", SelectSettings(budget=2), first)
    assert journal.exists()
    annotate_simulate.run(place / "d.h5", place / "p1.h5", place / "a1.h5", AnnotateSettings(), first)
    assert find_journals(first) == [other]


def test_settings_orphan_no_journal(place, person, capsys):
    person.stops(most=3)
    person.stops(most=2, seed=5, later_key="m", annotator="Grace")
    assert "3 of 60 queries were answered before" in capsys.readouterr().out
    assert len(set(person.asked)) == 5
    assert len(find_journals(place / "a.h5")) == 1


def test_the_journal_of_an_older_version_is_continued(place, person, capsys):
    """It was named after the request, and had no first line."""
    person.stops(most=3)
    (journal,) = find_journals(place / "a.h5")
    with Dataset(place / "d.h5") as data, Queries(place / "p.h5") as queries:
        inputs = refer(place / "a.h5", {"dataset": data, "queries": queries})
        settings = PeopleSettings().settled(answer="class")
        request = Request("annotate", "annotations", place / "a.h5", settings, inputs)
    _, *lines = journal.read_bytes().splitlines(keepends=True)
    journal.unlink()
    journal_path(place / "a.h5", request.key()).write_bytes(b"".join(lines))
    person.stops(most=1)
    assert "3 of 60 queries were answered before" in capsys.readouterr().out
    assert find_journals(place / "a.h5") == [journal]


@pytest.fixture
def others(place):
    """Other queries, among them some of p.h5."""
    truth = Truth(place, "p.h5")
    select.run(place / "d.h5", place / "ps.h5", place / "q.h5", SelectSettings(rule="uniform", budget=40, seed=1))
    other = Queries(place / "q.h5")
    there = {(other.ids[i], y, x) for i, y, x in zip(other.image, other.y, other.x, strict=True)}
    ours, ids = truth.queries, truth.queries.ids
    return [query for query in range(60) if (ids[ours.image[query]], ours.y[query], ours.x[query]) in there]


def test_answers_to_other_queries_are_named_and_taken_over_on_demand(place, person, others, capsys):
    assert others, "otherwise this test tells nothing"
    person.stops(queries="q.h5", most=240)
    (journal,) = find_journals(place / "a.h5")
    kept = journal.read_bytes()
    capsys.readouterr()
    person.stops(most=0)
    told = f"{journal} has 240 answers to other queries; pass --journal {journal} to use those to {len(others)} open"
    assert told in capsys.readouterr().out
    person.stops(most=0, journal=str(journal))
    assert f"took over the answers to {len(others)} queries from {journal}" in capsys.readouterr().out
    assert journal.read_bytes() == kept
    person.stops(most=0)
    assert f"{journal} has 240 answers to other queries\n{len(others)} of 60" in capsys.readouterr().out
    ledger = Annotations(person.answers(most=60 - len(others)))
    assert (ledger.answers.label == CLASS).all()
    assert len(ledger.answers) == 60
    assert not set(others) & set(person.asked[240:])


def test_masks_are_taken_over_with_their_answers(place, person):
    person.stops(queries="k.h5", most=6)
    (journal,) = find_journals(place / "a.h5")
    select.run(place / "d.h5", place / "os.h5", place / "k2.h5", SelectSettings(rule="top", budget=4))
    ledger = Annotations(person.answers("k2.h5", 0, journal=str(journal)))
    truth = Dataset(place / "d.h5")
    assert len(ledger.mask_ids) == 4
    for image in ledger.mask_ids:
        assert np.array_equal(ledger.label_map(image), truth.mask(image))


@pytest.mark.parametrize("change", [{"classes": ["a", "b"]}, {"superpixels": "other"}, {"sizes": {}}, None])
def test_answers_that_may_mean_something_else_are_not_taken_over(change, place, person, others):
    person.stops(queries="q.h5", most=240)
    (journal,) = find_journals(place / "a.h5")
    first, *lines = journal.read_text().splitlines()
    asked = json.loads(first)
    del asked["sha256"]
    first = [] if change is None else [json.dumps(asked | change)]
    journal.write_text("\n".join([*first, *lines, ""]))
    with pytest.raises(BadInput, match=r"has 240 answers, but none to an open query here\. Omit --journal"):
        person.answers(journal=str(journal))


def test_a_journal_that_is_none_is_named(place, person):
    with pytest.raises(BadInput, match=r"Cannot read x\.jsonl"):
        person.answers(journal="x.jsonl")
    with pytest.raises(BadInput, match=r"d\.h5, line 1: The line is damaged"):
        person.answers(journal=str(place / "d.h5"))


def test_the_end_of_answering_is_on_disk_before_the_ledger(place, person, monkeypatch):
    """A process that dies between the two leaves a journal that makes the ledger without a question."""

    def dies(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(annotate, "publish", dies)
        with pytest.raises(KeyboardInterrupt):
            person.answers()
    assert not (place / "a.h5").exists()
    ledger = Annotations(person.answers())
    assert len(ledger.answers) == len(person.asked) == 5
