"""Who is asked what, the order of queries, the keys and the answers, without a server."""

import itertools

import numpy as np
import pytest
from annotate_support import Truth, answers_in
from hypothesis import given as sampled
from hypothesis import strategies as st

from stages.answering.answer import Answer
from stages.answering.browser.guard import is_ours, name_in
from stages.answering.browser.masks import MaskFiles
from stages.answering.browser.pins import pins_of
from stages.answering.browser.refused import Refused
from stages.answering.browser.session import Conflict, Session, Shown
from stages.answering.journal import Journal
from stages.answering.order import short_path
from stages.answering.questions import Questions
from stages.artifacts.annotations import Annotations
from stages.runtime.errors import BadInput, StageFailed
from stages.settings.annotate import PeopleSettings
from stages.settings.keys import class_keys


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def questions(made):
    truth = Truth(made, "p.h5")
    return Questions(truth.data, truth.queries, None)


@pytest.fixture
def session(questions, tmp_path, clock):
    journal = Journal(tmp_path / "w" / "journal.jsonl", questions)
    yield Session(questions, journal, PeopleSettings(), clock=clock)
    journal.close()


def answer(session, client, situation, name=None, classes=(0,), **given):
    query = situation["question"]["query"]
    place = session.questions.place(query)
    values = {"query": query, **place, "classes": classes, "seconds": 1.0, "annotator": name or client, **given}
    return session.answer(client, Answer(**values), situation["revision"])


def asked(situation):
    return situation["question"]["query"]


class TestLeases:
    def test_two_get_different_images(self, session):
        one, two = session.ask("a", "a"), session.ask("b", "b")
        assert one["question"]["image"] != two["question"]["image"]
        assert session.ask("a", "a")["question"] == one["question"]  # the same again for the same page

    def test_each_stays_in_an_image_until_it_is_done(self, session):
        seen = {"a": [], "b": []}
        for client in seen:
            situation = session.ask(client, client)
            for _ in range(20):
                seen[client].append(situation["question"]["image"])
                situation = answer(session, client, situation)
        for images in seen.values():
            assert len([1 for before, after in itertools.pairwise(images) if before != after]) == 1

    def test_an_expired_lease_goes_to_others_and_the_first_answer_wins(self, session, clock):
        late = session.ask("a", "a")
        clock.now += 60 * 5.1
        early = session.ask("b", "b")
        assert asked(early) == asked(late)
        answer(session, "b", early)
        with pytest.raises(Conflict, match=r"^“b” answered this query in the meantime\. Your answer was not saved\.$"):
            answer(session, "a", late)
        assert session.answers[asked(late)].annotator == "b"

    def test_an_expired_lease_still_counts_while_nobody_answered(self, session, clock):
        late = session.ask("a", "a")
        clock.now += 60 * 5.1
        assert asked(session.ask("b", "b")) == asked(late)
        answer(session, "a", late)
        assert session.answers[asked(late)].annotator == "a"
        assert asked(session.ask("b", "b")) != asked(late)

    def test_a_closed_page_frees_its_query(self, session):
        first = session.ask("a", "a")
        session.leave("a")
        assert asked(session.ask("b", "b")) == asked(first)

    def test_the_last_queries_wait_for_others_but_not_for_a_lost_window_of_ones_own(self, session):
        held = session.ask("lost", "a")
        situation = session.ask("new", "a")
        while asked(situation) != asked(held):
            situation = answer(session, "new", situation, "a")
        assert len(session.answers) == 59
        assert session.ask("other", "b")["state"] == "waiting"

    def test_what_was_put_off_comes_again_at_the_end(self, session):
        first = session.ask("a", "a")
        situation = session.put_off("a", "a", asked(first))
        for _ in range(59):
            assert asked(situation) != asked(first)
            situation = answer(session, "a", situation)
        assert asked(situation) == asked(first)
        assert answer(session, "a", situation)["state"] == "complete"


class TestAnswers:
    def test_sent_twice_counts_once(self, session):
        situation = session.ask("a", "a")
        one = answer(session, "a", situation)
        again = answer(session, "a", situation)
        assert asked(one) == asked(again)
        assert len(answers_in(session.journal.path)) == 1

    def test_another_answer_without_undo_is_refused(self, session):
        situation = session.ask("a", "a")
        answer(session, "a", situation)
        with pytest.raises(Conflict):
            answer(session, "a", situation, classes=(1,))

    def test_undo_goes_back_and_the_correction_counts(self, session):
        first = session.ask("a", "a")
        second = answer(session, "a", first)
        third = answer(session, "a", second)
        back = session.back("a", "a", asked(third))
        assert asked(back) == asked(second)
        assert back["answer"] == {"classes": (0,), "void": False, "skip": False, "mask": ""}
        further = session.back("a", "a", asked(back))
        assert asked(further) == asked(first)
        assert asked(answer(session, "a", further, classes=(3,))) == asked(third)
        assert session.answers[asked(first)].classes == (3,)
        assert session.seconds[asked(first)] == 2  # both took their time
        assert len(answers_in(session.journal.path)) == 3

    def test_nobody_undoes_what_another_said(self, session):
        answer(session, "a", session.ask("a", "a"))
        with pytest.raises(Refused, match=r"^You have no earlier answer to change\.$"):
            session.back("b", "b", None)

    def test_pages_of_one_name_undo_what_they_answered_and_what_is_left_of_closed_ones(self, session):
        first = session.ask("a", "Ada")
        answer(session, "a", first, "Ada")
        second = session.ask("b", "Ada")
        with pytest.raises(Refused, match="no earlier answer to change"):
            session.back("b", "Ada", None)
        answer(session, "b", second, "Ada")
        assert asked(session.back("a", "Ada", None)) == asked(first)
        assert asked(session.back("b", "Ada", None)) == asked(second)
        session.leave("b")
        assert asked(session.back("a", "Ada", None)) == asked(second)

    def test_times_are_capped_and_tell_what_is_left(self, session):
        situation = session.ask("a", "a")
        assert situation["progress"]["minutes_left"] is None
        for seconds in (4, 10_000, 5):
            situation = answer(session, "a", situation, seconds=float(seconds))
        assert sorted(session.seconds.values()) == [4, 5, 120]
        assert situation["progress"]["minutes_left"] == 5 * 57 / 60

    def test_painting_takes_as_long_as_its_strokes(self, made, tmp_path):
        """The cap is per stroke; a chosen file has no clicks, so the cost of its mask is not known."""
        truth = Truth(made, "k.h5")
        questions = Questions(truth.data, truth.queries, None)
        masks = MaskFiles(tmp_path / "masks", questions)
        journal = Journal(tmp_path / "w" / "journal.jsonl", questions)
        session = Session(questions, journal, PeopleSettings().settled(answer="mask"), masks=masks)
        situation = session.ask("a", "a")
        for clicks, seconds, counted in ((3, 400.0, 400.0), (3, 4000.0, 480.0), (0, 300.0, 120.0)):
            query = asked(situation)
            digest = masks.keep(query, truth.data.mask(questions.image(query)))
            situation = answer(session, "a", situation, classes=(), mask=digest, clicks=clicks, seconds=seconds)
            assert (session.clicks[query], session.seconds[query]) == (clicks or None, counted)
        situation = session.reopen("a", "a", query)
        again = masks.keep(query, np.zeros_like(truth.data.mask(questions.image(query))))
        answer(session, "a", situation, classes=(), mask=again, clicks=2)
        assert session.clicks[query] is None, "a file that was corrected"
        journal.close()

    def test_who_changes_an_answer_has_seen_the_suggestion(self, session):
        situation = session.ask("a", "a")
        query = asked(situation)
        answer(session, "a", situation, suggested=4)
        answer(session, "a", session.back("a", "a", None), classes=(2,))
        assert (session.answers[query].classes, session.answers[query].suggested) == ((2,), 4)
        with pytest.raises(Refused, match="The suggestion or the clicks do not fit"):
            answer(session, "a", session.ask("a", "a"), suggested=9)

    def test_a_full_disk_is_told_and_nothing_counts(self, session, monkeypatch):
        situation = session.ask("a", "a")

        def full(*arguments):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", full)
            with pytest.raises(StageFailed, match="No space left"):
                answer(session, "a", situation)
        assert session.journal.path.read_bytes() == b""
        assert not session.answers
        answer(session, "a", situation)
        assert len(answers_in(session.journal.path)) == 1

    def test_more_names_than_a_ledger_takes_are_refused_before_any_work(self, session):
        session.names |= {f"name {number}" for number in range(256)}
        told = r"^A ledger has room for 256 annotators\. Choose one of the names used before\.$"
        with pytest.raises(Refused, match=told):
            session.ask("a", "a")
        session.ask("a", "name 3")

    def test_the_end_waits_for_who_reviews_answers(self, session, clock):
        situation = session.ask("a", "a")
        given = []
        for number in range(60):
            given.insert(0, asked(situation))
            situation = answer(session, "a", situation, classes=(number % 3,))
        found = session.review("a", "a")["answers"]
        assert [each["query"] for each in found] == given
        assert [each["answer"]["classes"] for each in found[:3]] == [(2,), (1,), (0,)]
        assert not session.review("b", "b")["answers"], "they are those of somebody else"
        session.leave("b")
        clock.now += 60
        session.close_when_complete()
        assert not session.closed
        with pytest.raises(Refused, match="not an answer of yours"):
            session.reopen("b", "b", given[0])
        session.leave("b")
        session.ask("a", "a")
        session.close_when_complete()
        assert session.closed

    def test_answers_that_are_changed_later_end_when_somebody_finishes(self, session, clock):
        situation = session.ask("a", "a")
        for _ in range(60):
            situation = answer(session, "a", situation)
        session.editing = True
        clock.now += 3600
        session.close_when_complete()
        assert not session.closed
        session.finish()
        assert session.closed

    def test_the_end_waits_for_who_looks_at_an_answer_again(self, session, clock):
        situation = session.ask("a", "a")
        for _ in range(60):
            situation = answer(session, "a", situation)
        session.close_when_complete()
        assert not session.closed
        session.back("a", "a", None)
        clock.now += 60
        session.close_when_complete()
        assert not session.closed
        session.ask("a", "a")
        session.close_when_complete()
        assert session.closed
        with pytest.raises(Refused, match="has ended"):
            session.ask("a", "a")


@sampled(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=40))
def test_the_path_visits_everything_once_and_always_the_nearest(points):
    y, x = np.array(points, dtype=np.int32).reshape(-1, 2).T
    path = short_path(y, x)
    assert sorted(path.tolist()) == list(range(len(points)))
    for place, (here, following) in enumerate(itertools.pairwise(path)):
        distance = (y[path[place + 1 :]] - y[here]) ** 2 + (x[path[place + 1 :]] - x[here]) ** 2
        assert (y[following] - y[here]) ** 2 + (x[following] - x[here]) ** 2 == distance.min()


class TestPins:
    def test_own_answers_in_the_image_are_pinned_where_they_were_given(self, session):
        situation = session.ask("a", "a")
        first, image = situation["question"], situation["question"]["image"]
        assert situation["pins"] == []
        situation = answer(session, "a", situation, classes=(4,))
        second = situation["question"]
        assert situation["pins"] == [(first["y"] + 0.5, first["x"] + 0.5, 4)]
        situation = answer(session, "a", situation, classes=(), void=True)
        assert (second["y"] + 0.5, second["x"] + 0.5, -1) in situation["pins"]
        assert situation["question"]["image"] == image
        session.leave("a")
        assert session.ask("b", "b")["pins"] == [], "nobody is shown what others answered"
        session.leave("b")
        assert session.back("a", "a", None)["pins"] == [(first["y"] + 0.5, first["x"] + 0.5, 4)]

    def test_answers_of_earlier_rounds_are_pinned_but_not_at_the_place_of_the_query(self, made, session):
        ledger = Annotations(made / "p-simulated.h5")
        questions = session.questions
        session.extras = Shown(pins=pins_of(ledger, questions))
        name = ledger.annotators[ledger.answers.annotator[0]]
        situation = session.ask("a", name)
        image = situation["question"]["image"]
        others = [query for query in questions.rows[image].tolist() if query != asked(situation)]
        queries = questions.queries
        expected = {(queries.y[query] + 0.5, queries.x[query] + 0.5) for query in others}
        assert {pin[:2] for pin in situation["pins"]} == expected
        assert session.ask("b", "b")["pins"] == []


class TestKeys:
    def test_digits_then_letters_that_no_command_has(self):
        keys = class_keys(None, PeopleSettings(skip_key="w").commands(), [f"class {number}" for number in range(14)])
        assert keys == [*"1234567890", "q", "e", "r", "t"]

    def test_classes_beyond_the_keys_have_none(self):
        keys = class_keys(None, PeopleSettings().commands(), ["c"] * 61)
        assert keys[59:] == [None, None]
        assert len(set(keys[:59])) == 59
        with pytest.raises(BadInput, match="Name one for each"):
            class_keys(("a",), PeopleSettings().commands(), ["c"] * 2)


@pytest.mark.parametrize(
    "header, host, ours",
    [
        ("127.0.0.1:80", "127.0.0.1", True),
        ("localhost", "127.0.0.1", True),
        ("[::1]:9", "127.0.0.1", True),
        ("10.0.0.1:80", "127.0.0.1", False),
        ("evil.example", "127.0.0.1", False),
        ("evil.example", "0.0.0.0", False),
        ("10.0.0.1:80", "0.0.0.0", True),
        ("lab.example:80", "lab.example", True),
        ("", "0.0.0.0", False),
        ("a b", "0.0.0.0", False),
        ("127.0.0.1:80:80", "127.0.0.1", False),
    ],
)
def test_only_names_of_this_server_are_answered(header, host, ours):
    assert is_ours(name_in(header), host) is ours
