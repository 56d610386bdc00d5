"""Queries that are asked again go to others than those who answered before, as long as several people work."""

import pytest
from test_annotate_session import Clock, answer, asked

from stages.answering.browser.pins import pins_of
from stages.answering.browser.repeats import answered_before
from stages.answering.browser.session import Session, Shown
from stages.answering.journal import Journal
from stages.answering.questions import Questions
from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.purposes import AGAIN
from stages.artifacts.queries import Queries
from stages.commands import select
from stages.settings.annotate import PeopleSettings
from stages.settings.select import SelectSettings

BEFORE, OTHER = "oracle", "Ben"  # who answered the first round, and who did not


@pytest.fixture
def world(made, tmp_path):
    """A session of 24 queries, 12 of which the oracle answered before; the clock, and those 12."""
    ledger = made / "p-simulated.h5"
    how = SelectSettings(rule="uniform", budget=4, repeat=0.5)
    path = select.run(made / "d.h5", made / "ps.h5", tmp_path / "q.h5", how, ledger)
    questions = Questions(Dataset(made / "d.h5"), Queries(path), None)
    before = answered_before(Annotations(ledger), questions)
    clock, journal = Clock(), Journal(tmp_path / "w" / "journal.jsonl", questions)
    shown = Shown(pins=pins_of(Annotations(ledger), questions), answered_before=before)
    yield Session(questions, journal, PeopleSettings(), clock=clock, shown=shown), clock, set(before)
    journal.close()


def answer_all(session, name):
    """The queries that one person is offered, answered until there is none."""
    seen, situation = [], session.ask(name, name)
    while situation["state"] == "open":
        seen.append(asked(situation))
        situation = answer(session, name, situation, name)
    return seen, situation["state"]


def test_who_answered_before_is_known(world):
    session, _, again = world
    purpose = session.questions.queries.purpose
    assert again == {query for query in range(24) if purpose[query] == AGAIN}
    assert len(again) == 12
    assert set(map(tuple, session.extras.answered_before.values())) == {(BEFORE,)}


def test_one_person_alone_is_offered_all(world):
    seen, state = answer_all(world[0], BEFORE)
    assert (len(seen), state) == (24, "complete")


def test_two_people_get_what_they_did_not_answer(world):
    session, _, again = world
    session.ask(OTHER, OTHER)
    seen, state = answer_all(session, BEFORE)
    assert state == "waiting"
    assert not again & set(seen)
    seen, state = answer_all(session, OTHER)
    assert state == "complete"
    assert again <= set(seen)


@pytest.mark.parametrize("how", ["closes the page", "is away"])
def test_nobody_waits_for_one_who_left(world, how):
    session, clock, again = world
    session.ask(OTHER, OTHER)
    assert answer_all(session, BEFORE)[1] == "waiting"
    if how == "closes the page":
        session.leave(OTHER)
    else:
        clock.now += 60 * 5.1
    seen, state = answer_all(session, BEFORE)
    assert state == "complete"
    assert again <= set(seen)


def test_the_page_does_not_tell_why_it_asks_or_what_was_answered(world):
    session, _, again = world
    situation = session.ask(BEFORE, BEFORE)
    while asked(situation) not in again:
        situation = answer(session, BEFORE, situation, BEFORE)
    assert "purpose" not in situation["question"]
    here = session.questions.middle(asked(situation))
    assert here not in [pin[:2] for pin in situation["pins"]]
