"""A server that does not respond: the page says so, tries again, and keeps what was typed. Names of browsers."""

import time

import pytest
from annotate_support import BACKSPACE, answers_in, served

pytestmark = pytest.mark.slow

# Answers meet a server that does not respond (`hang`), whose response is lost (`lose`), or that refuses (`refuse`),
# until `mode` is emptied; time limits are short.
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
