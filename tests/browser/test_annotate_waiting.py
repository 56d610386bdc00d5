"""A server that does not respond: the page says so, tries again, and keeps what was typed. Names of browsers."""

import time

import pytest
from annotate_support import BACKSPACE, answers_in, served

pytestmark = pytest.mark.slow

# Answers meet a server that does not respond (`hang`), whose response is lost (`lose`), that refuses (`refuse`), or
# that they reach late (`late`), until `mode` is emptied; time limits are short.
NETWORK = """
    window.mode = arguments[0];
    window.tries = 0;
    const send = window.fetch;
    const limit = AbortSignal.timeout.bind(AbortSignal);
    AbortSignal.timeout = (milliseconds) => limit(milliseconds / 50);
    window.fetch = async (path, options) => {
      if (path !== "answer" || !window.mode) return send(path, options);
      window.tries += 1;
      if (window.mode === "lose") await send(path, options);
      if (window.mode === "late") {
        await new Promise((done) => { window.release = done; });
        return send(path, { ...options, signal: undefined });
      }
      if (window.mode !== "refuse") {
        return new Promise((_, lost) => options.signal?.addEventListener("abort", () => lost(new Error("too late"))));
      }
      await new Promise((done) => { window.release = done; });
      return new Response('{"message": "The disk is full."}', { status: 507 });
    };
"""


def strike(browser, *keys):
    for key in keys:
        browser.do("document.dispatchEvent(new KeyboardEvent('keydown', {key: arguments[0]}))", key)


def wait_until(true):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def journal_of(place):
    return next((place / "a.h5.work").iterdir())


@pytest.mark.parametrize("mode", ["hang", "lose"])
def test_the_page_waits_tries_again_and_keeps_what_was_typed(mode, place, browser):
    with served("d.h5", "p.h5", "-o", "a.h5", cwd=place) as server:
        browser.open(server.address)
        browser.do(NETWORK, mode)
        strike(browser, "1")
        wait_until(lambda: browser.text("#notice").startswith("Waiting for the server."))
        strike(browser, "2", "v")
        assert "Typed ahead: 2 v." in browser.text("#notice")
        wait_until(lambda: browser.do("return window.tries") > 1)
        assert "your last action is not saved yet" in browser.text("#notice")
        browser.do("window.mode = ''")
        wait_until(lambda: "3 of 60 answered" in browser.text("#progress"))
        browser.settle()
        assert browser.text("#notice") == ""
        answers = answers_in(journal_of(place))
        assert [answer.get("classes", "void") for answer in answers] == [[0], [1], "void"]
        assert len({answer["query"] for answer in answers}) == 3


def test_the_next_query_is_on_the_screen_while_the_answer_is_saved(place, browser):
    """Before the server has seen the answer; the one after is sent only then, to the query that was shown."""
    with served("d.h5", "p.h5", "-o", "a.h5", cwd=place) as server:
        browser.open(server.address)
        before = browser.text("#caption")
        browser.do(NETWORK, "hang")
        strike(browser, "1")
        wait_until(lambda: browser.text("#caption") != before)
        foreseen = browser.text("#caption")
        assert not browser.do("return document.body.dataset.query"), "keys do not count yet"
        strike(browser, "2")
        assert journal_of(place).stat().st_size == 0
        browser.do("window.mode = ''")
        wait_until(lambda: "2 of 60 answered" in browser.text("#progress"))
        browser.settle()
        one, two = answers_in(journal_of(place))
        assert (one["classes"], two["classes"]) == ([0], [1])
        assert foreseen == f"{two['image']} · y {two['y']}, x {two['x']}"
        assert 0 < two["seconds"] < 60


def test_keys_for_a_query_that_somebody_else_took_are_not_used(place, browser):
    with served("d.h5", "p.h5", "-o", "a.h5", cwd=place) as server:
        browser.open(server.address)
        before = browser.text("#caption")
        browser.do(NETWORK, "late")
        strike(browser, "1")
        wait_until(lambda: browser.text("#caption") != before)
        foreseen = browser.text("#caption")
        strike(browser, "2")
        other = server.client()
        situation = other.ask()
        while True:  # until the query that the page shows is answered by somebody else
            question, (status, following) = situation["question"], other.answer(situation, classes=[3])
            assert status == 200, following
            if foreseen == f"{question['image']} · y {question['y']}, x {question['x']}":
                break
            situation = following
        browser.do("window.release()")
        browser.settle()
        assert browser.text("#notice") == "These keys were not used: 2."
        assert browser.text("#caption") not in (before, foreseen)
        mine = [answer for answer in answers_in(journal_of(place)) if answer["classes"] != [3]]
        assert [answer["classes"] for answer in mine] == [[0]]


def test_what_was_typed_after_a_refused_answer_is_not_used(place, browser):
    with served("d.h5", "p.h5", "-o", "a.h5", cwd=place) as server:
        browser.open(server.address)
        _, query = browser.settle()
        browser.do(NETWORK, "refuse")
        strike(browser, "1")
        wait_until(lambda: browser.do("return Boolean(window.release)"))
        strike(browser, "2", "3")
        browser.do("window.release()")
        assert browser.settle() == ("open", query)
        assert browser.text("#notice") == "The disk is full. These keys were not used: 2 3."
        browser.do("window.release = null")
        strike(browser, "4")
        wait_until(lambda: browser.do("return Boolean(window.release)"))
        strike(browser, "5", "Escape")
        assert browser.text("#notice") == "These keys were not used: 5."
        browser.do("window.mode = ''; window.release()")
        browser.settle()
        assert browser.text("#notice") == "The disk is full."
        assert journal_of(place).stat().st_size == 0


def test_each_browser_has_a_name_of_its_own_and_keeps_it(place, browser, other_browser):
    both = (browser, other_browser)
    names = []
    for _ in range(2):
        with served("d.h5", "p.h5", "-o", "a.h5", cwd=place) as server:
            for chromium in both:
                if not names:
                    chromium.driver.get(server.address)
                    chromium.forget_name()
                    chromium.do("sessionStorage.clear()")
                chromium.open(server.address)
                chromium.press("1")
            names.append([chromium.text("#who") for chromium in both])
            for chromium in both:
                _, shown = chromium.settle()
                _, before = chromium.press(BACKSPACE)
                assert before != shown
                chromium.press("2")
            server.kill()
    assert names[0] == names[1]
    assert len(set(names[0])) == 2
    answers = answers_in(journal_of(place))
    assert [answer["annotator"] for answer in answers[:4]] == [*names[0], *names[0]]
    for first, second in zip(answers[:2], answers[2:4], strict=True):
        assert first["query"] == second["query"], "undo opens what the same annotator answered"
