"""People answer in a real browser, by keys alone: the ledger is that of the simulation but for times and names."""

import re
import time
from urllib.parse import quote

import numpy as np
import pytest
from annotate_support import BACKSPACE, ENTER, Truth, answers_in, assert_same_answers, served

from stages.artifacts.annotations import Annotations

pytestmark = pytest.mark.slow
REGIONS = ("--superpixels", "regions.h5")
AT_ONCE = ("--grace", "0")


@pytest.mark.parametrize(
    "name, queries, options",
    [("p", 60, ()), ("r", 30, REGIONS), ("c", 30, REGIONS), ("i", 6, ()), ("o", 6, ())],
    ids=["pixels", "dominant classes", "class sets", "class of images", "classes of images"],
)
def test_keys_alone_give_the_ledger_of_the_simulation(name, queries, options, place, browser):
    truth = Truth(place, f"{name}.h5", options[1] if options else None)
    browser.faults()  # those of other tests are read
    browser.forget_name()
    with served("d.h5", f"{name}.h5", "-o", "a.h5", *options, *AT_ONCE, cwd=place) as server:
        browser.open(server.address)
        assert "token" not in browser.driver.current_url
        answered = browser.answer_all(truth)
        browser.wait_for("ended")
        assert "The ledger is written" in browser.text("#cover")
        assert server.end() == (0, f"wrote a.h5: round 0, {queries} answers, 0 queries open\n")
    assert sorted(answered) == list(range(queries))
    images = [truth.queries.image[query] for query in answered]
    assert images == sorted(images)  # image by image
    assert_same_answers(place / "a.h5", place / f"{name}-simulated.h5")
    ledger = Annotations(place / "a.h5")
    (name,) = ledger.annotators
    assert re.fullmatch("person-[0-9a-f]{4}", name)
    assert (ledger.answers.seconds > 0).all()
    assert (ledger.answers.seconds < 60).all()
    assert not browser.faults()


def test_the_ring_is_around_the_pixel_that_is_asked_about(place, browser):
    """The middle of what Space hides, looked up in the image: a wrong place would make every answer wrong."""
    truth = Truth(place, "p.h5")
    with served("d.h5", "p.h5", "-o", "a.h5", cwd=place) as server:
        browser.open(server.address)
        browser.press(*"+" * 12)
        for _ in range(6):
            _, query = browser.settle()
            plain = browser.canvas(marks=False)
            changed = np.argwhere((browser.canvas() != plain).any(2))
            middle = (changed.min(0) + changed.max(0)) // 2
            image = truth.data.image(truth.queries.ids[truth.queries.image[query]])
            asked = image[truth.queries.y[query], truth.queries.x[query]]
            assert np.abs(plain[tuple(middle)] - asked).max() <= 1
            browser.press("l")
    assert np.ptp(image.reshape(-1, 3), 0).min() > 50  # so that another pixel would have shown


def test_the_outline_is_around_the_region_that_is_asked_about(place, browser):
    """What is veiled is everything but the region."""
    truth = Truth(place, "r.h5", "regions.h5")
    with served("d.h5", "r.h5", "-o", "a.h5", *REGIONS, cwd=place) as server:
        browser.open(server.address)
        browser.press("-", "-")
        for _ in range(4):
            _, query = browser.press("l")
            plain, marked = browser.canvas(marks=False), browser.canvas()
            inside = np.argwhere((plain != plain[2, -2]).any(2))  # the image, with its ground around
            (y0, x0), (y1, x1) = inside.min(0), inside.max(0) + 1
            clear = (plain == marked).all(2)[y0:y1, x0:x1]
            labels = truth.regions.labels(truth.queries.ids[truth.queries.image[query]])
            region = labels == truth.queries.region[query] - truth.regions.rows[image_of(truth, query)].start
            rows, columns = (np.arange(side) * of // side for side, of in zip(clear.shape, region.shape, strict=True))
            expected = region[rows[:, None], columns]
            assert not (clear & ~expected).any()
            assert clear.sum() > 0.5 * expected.sum()  # the rest is under the line around it


def image_of(truth, query):
    return truth.queries.ids[truth.queries.image[query]]


def test_reload_goes_on_at_the_same_query(place, browser):
    truth = Truth(place, "p.h5")
    with served("d.h5", "p.h5", "-o", "a.h5", cwd=place) as server:
        browser.open(server.address)
        answered = browser.answer_all(truth, most=3)
        for _ in range(2):
            _, query = browser.settle()
            browser.driver.refresh()
            assert browser.settle() == ("open", query)
        assert query not in answered
        assert "3 of 60 answered" in browser.text("#progress")
        assert "left" in browser.text("#progress")


def test_undo_changes_the_answer_before_even_after_a_reload(place, browser):
    truth = Truth(place, "p.h5")
    with served("d.h5", "p.h5", "-o", "a.h5", *AT_ONCE, cwd=place) as server:
        browser.open(server.address)
        first, second = browser.answer_all(truth, most=2)
        _, third = browser.settle()
        assert browser.press(BACKSPACE) == ("open", second)
        assert "earlier answer" in browser.text("#mode")
        assert browser.press(BACKSPACE) == ("open", first)
        assert browser.press(BACKSPACE) == ("open", first)
        assert "no earlier answer" in browser.text("#notice")
        assert browser.press("x") == ("open", third)  # changed
        browser.driver.refresh()
        browser.settle()
        assert browser.press(BACKSPACE) == ("open", first)
        assert browser.press(ENTER) == ("open", third)  # kept
        browser.answer_all(truth)
        browser.wait_for("ended")
        assert server.end()[0] == 0
    answers = Annotations(place / "a.h5").answers
    assert len(answers) == 60
    assert answers.state[first] == 3
    assert (answers.state[np.arange(60) != first] < 3).all()


def test_what_is_put_off_comes_last_and_the_last_answer_can_be_undone(place, browser):
    truth = Truth(place, "i.h5")
    with served("d.h5", "i.h5", "-o", "a.h5", "--grace", "60", cwd=place) as server:
        browser.open(server.address)
        _, put_off = browser.settle()
        browser.press("l")
        assert "1 for later" in browser.text("#progress")
        answered = browser.answer_all(truth)
        assert answered[-1] == put_off
        assert browser.state()[0] == "complete"
        assert browser.press(BACKSPACE) == ("open", put_off)
        assert browser.press("v")[0] == "complete"
        browser.press(ENTER)  # no need to wait for a minute
        browser.wait_for("ended")
        assert server.end()[0] == 0
    assert Annotations(place / "a.h5").answers.state.tolist().count(2) == 1


def test_two_browsers_get_different_queries_and_both_names_are_recorded(place, browser, other_browser):
    truth = Truth(place, "p.h5")
    names = ("Ada Lovelace", "Bérénice 2")
    with served("d.h5", "p.h5", "-o", "a.h5", *AT_ONCE, cwd=place) as server:
        both = (browser, other_browser)
        for chromium, name in zip(both, names, strict=True):
            chromium.open(f"{server.address}&annotator={quote(name)}")
        answered = []
        while len(answered) < 60:
            shown = [query for state, query in (chromium.settle() for chromium in both) if state == "open"]
            assert len(set(shown)) == len(shown)
            for chromium in both:
                answered += chromium.answer_all(truth, most=1)
        assert server.end()[0] == 0
    assert sorted(answered) == list(range(60))
    assert_same_answers(place / "a.h5", place / "p-simulated.h5")
    ledger = Annotations(place / "a.h5")
    assert sorted(ledger.annotators) == sorted(names)
    assert np.bincount(ledger.answers.annotator).min() == 30


def test_an_answer_that_comes_second_is_told_so(place, browser):
    """A lease of no time: another one answers what the browser still shows."""
    with served("d.h5", "p.h5", "-o", "a.h5", "--lease-minutes", "0.0001", cwd=place) as server:
        browser.open(server.address)
        _, query = browser.settle()
        time.sleep(0.01)
        client = server.client()
        situation = client.ask()
        assert situation["question"]["query"] == query
        assert client.answer(situation, skip=True)[0] == 200
        state, following = browser.press("1")
        assert (state, following != query) == ("open", True)
        assert "“somebody” answered this query in the meantime" in browser.text("#notice")
        assert "1 of 60 answered" in browser.text("#progress")


def test_finish_writes_the_ledger_with_the_rest_open(place, browser):
    truth = Truth(place, "p.h5")
    with served("d.h5", "p.h5", "-o", "a.h5", cwd=place) as server:
        browser.open(server.address)
        answered = browser.answer_all(truth, most=5)
        browser.click("#finish")
        assert "5 of 60 queries are answered" in browser.text("#finish-text")
        browser.click("#finish-dialog button[value=cancel]")
        answered += browser.answer_all(truth, most=1)  # keys go to the page again
        browser.click("#finish")
        browser.click("#finish-dialog button.main")
        browser.wait_for("ended")
        assert server.end() == (0, "wrote a.h5: round 0, 6 answers, 54 queries open\n")
    ledger = Annotations(place / "a.h5")
    assert len(ledger.answers) == 6
    assert ledger.header.counts["open"] == 54
    known = Annotations(place / "p-simulated.h5").answers
    assert (ledger.answers.label == known.label[sorted(answered)]).all()


def test_keys_of_ones_own_the_form_for_the_name_and_clicks(place, browser):
    keys = ("--keys", "a,s,d,f,g,h,j,k,ö", "--void-key", "0", "--undo-key", "u")
    with served("d.h5", "p.h5", "-o", "a.h5", *keys, cwd=place) as server:
        browser.open(server.address)
        assert "ö" in browser.text("#classes")
        browser.click("#who")
        browser.do("document.querySelector('#name').value = ''")
        browser.press("G", "r", "a", "c", "e", ENTER)
        browser.settle()
        browser.press("ö")
        browser.press("A")  # Caps Lock
        browser.press("1")  # means nothing here
        browser.click("#classes button")
        browser.settle()
        answers = answers_in(next((place / "a.h5.work").iterdir()))
        assert [answer["annotator"] for answer in answers] == ["Grace"] * 3
        assert [answer["classes"] for answer in answers] == [[8], [0], [0]]


def test_a_held_key_answers_once_and_a_lost_server_loses_nothing(place, browser):
    with served("d.h5", "p.h5", "-o", "a.h5", cwd=place) as server:
        browser.open(server.address)
        for repeat in ("false", "true", "true"):
            browser.do(f"document.dispatchEvent(new KeyboardEvent('keydown', {{key: '1', repeat: {repeat}}}))")
        browser.settle()
        assert "1 of 60 answered" in browser.text("#progress")
        server.kill()
        browser.do("document.dispatchEvent(new KeyboardEvent('keydown', {key: '2'}))")
        deadline = time.monotonic() + 30
        while "does not respond" not in browser.text("#notice"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert browser.state() == ("open", None)  # it does not move on
    with served("d.h5", "p.h5", "-o", "a.h5", cwd=place) as server:
        assert server.told == "1 of 60 queries were answered before\n"
        browser.open(server.address)
        assert "1 of 60 answered" in browser.text("#progress")
