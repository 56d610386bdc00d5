"""Nothing is lost: servers killed while answers come in, torn journals, stops, a second server."""

import http.client
import json
import random
import signal
import threading
import time

import numpy as np
import pytest
from annotate_support import Truth, answers_in, launch, served

from stages.artifacts.annotations import Annotations

pytestmark = pytest.mark.slow
WORDS = ("d.h5", "m.h5", "-o", "a.h5", "--grace", "0")
KILLS = 20
BEFORE = "queries were answered before\n"


def answer_until_it_dies(client, truth, accepted, limit=None):
    """Answers what is asked and notes what the server said it has."""
    try:
        situation = client.ask()
        while situation["state"] == "open" and len(accepted) != limit:
            query = situation["question"]["query"]
            given = truth.given(query)
            status, situation = client.answer(situation, **given)
            assert status == 200, situation
            assert query not in accepted, "asked twice"
            accepted[query] = given
        if situation["state"] == "complete":
            client.post("/leave")
    except (OSError, http.client.HTTPException, json.JSONDecodeError):
        return


def test_twenty_kills_lose_no_answer_and_double_none(place):
    truth, generator = Truth(place, "m.h5"), random.Random(7)
    accepted = {}
    for number in range(KILLS):
        with served(*WORDS, cwd=place) as server:
            before = len(accepted)
            client = server.client()
            client.name = f"browser-{number}"
            thread = threading.Thread(target=answer_until_it_dies, args=(client, truth, accepted))
            thread.start()
            enough, deadline = before + generator.randint(1, 8), time.monotonic() + 60
            while len(accepted) < enough:
                assert time.monotonic() < deadline
                time.sleep(0.0005)
            time.sleep(generator.random() / 100)
            server.kill()
            thread.join()
        saved = [answer["query"] for answer in answers_in(journal_of(place))]
        assert len(set(saved)) == len(saved)
        assert set(accepted) <= set(saved)
        for query in set(saved) - set(accepted):  # saved, but the server died before it could say so
            accepted[query] = truth.given(query)
    assert not (place / "a.h5").exists()
    assert len(accepted) < 300
    with served(*WORDS, cwd=place) as server:
        assert server.told == f"{len(accepted)} of 300 queries were answered before\n"
        answer_until_it_dies(server.client(), truth, accepted)
        assert server.end()[0] == 0
    mine, known = Annotations(place / "a.h5").answers, Annotations(place / "m-simulated.h5").answers
    assert len(mine) == len(accepted) == 300
    for column in ("image", "y", "x", "label", "state", "clicks"):
        assert np.array_equal(getattr(mine, column), getattr(known, column))


def journal_of(place):
    (journal,) = (place / "a.h5.work").iterdir()
    return journal


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_keeps_the_journal_and_says_how_to_go_on(number, place):
    with served(*WORDS, cwd=place) as server:
        answer_until_it_dies(server.client(), Truth(place, "m.h5"), {}, limit=3)
        server.process.send_signal(number)
        assert server.end() == (
            75,
            "stopped: 3 of 300 queries answered, 297 open; run the command again to resume\n",
        )
    assert not (place / "a.h5").exists()
    assert len(answers_in(journal_of(place))) == 3


def test_without_an_answer_nothing_is_left_behind(place):
    before = sorted(place.iterdir())
    with served(*WORDS, cwd=place) as server:
        server.process.send_signal(signal.SIGTERM)
        assert server.end()[0] == 75
    assert sorted(place.iterdir()) == before


def test_torn_last_lines_are_dropped_and_other_requests_are_left_alone(place):
    truth, accepted = Truth(place, "m.h5"), {}
    with served(*WORDS, cwd=place) as server:
        answer_until_it_dies(server.client(), truth, accepted, limit=4)
        server.kill()
    journal = journal_of(place)
    whole = journal.read_bytes()
    other = journal.with_name("journal-0123456789abcdef.jsonl")
    other.write_bytes(whole * 2)
    for torn in (b'{"query": 7, "im', b"\x00\x00\x00\n", b"\n"):
        journal.write_bytes(whole + torn)
        with served(*WORDS, cwd=place) as server:
            assert server.told == f"a.h5.work/{other.name} has 8 answers to other queries\n4 of 300 {BEFORE}"
            answer_until_it_dies(server.client(), truth, accepted, limit=len(accepted) + 1)
            server.process.send_signal(signal.SIGTERM)
            server.end()
        *_, last = saved = answers_in(journal)
        assert len(saved) == 5
        journal.write_bytes(whole)
        del accepted[last["query"]]
    with served(*WORDS, cwd=place) as server:
        answer_until_it_dies(server.client(), truth, accepted)
        assert server.end()[0] == 0
    assert other.read_bytes() == whole * 2


def test_damage_inside_a_journal_is_named(place):
    with served(*WORDS, cwd=place) as server:
        answer_until_it_dies(server.client(), Truth(place, "m.h5"), {}, limit=3)
        server.kill()
    journal = journal_of(place)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], b"damage\n", *lines[3:]]))
    process = launch(*WORDS, cwd=place)
    _, err = process.communicate()
    assert process.returncode == 2
    assert f"a.h5.work/{journal.name}, line 3: The line is damaged" in err
    assert b"damage" in journal.read_bytes()  # nothing was thrown away


def test_a_second_server_is_refused_and_the_ledger_is_up_to_date_afterwards(place):
    with served(*WORDS, cwd=place) as server:
        second = launch(*WORDS, cwd=place)
        out, err = second.communicate()
        assert (second.returncode, out) == (1, "")
        assert "a.h5 is being written by process" in err
        answer_until_it_dies(server.client(), Truth(place, "m.h5"), {})
        assert server.end()[0] == 0
    again = launch(*WORDS, cwd=place)
    assert again.communicate() == ("a.h5 is up to date\n", "")
    for words in ((*WORDS, "--force"), ("d.h5", "p.h5", "-o", "a.h5")):
        process = launch(*words, cwd=place)
        assert "a.h5 holds answers given by people" in process.communicate()[1]
        assert process.returncode == 2


def test_a_stop_between_the_last_answer_and_the_ledger_goes_on_without_asking(place):
    with served("d.h5", "p.h5", "-o", "a.h5", "--grace", "60", cwd=place) as server:
        answer_until_it_dies(server.client(), Truth(place, "p.h5"), {})
        server.kill()
    process = launch("d.h5", "p.h5", "-o", "a.h5", cwd=place)
    assert "wrote a.h5: round 0, 60 answers" in process.communicate()[0]
