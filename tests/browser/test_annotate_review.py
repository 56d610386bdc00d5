"""The grid of answers, and answers that are changed after the ledger was written."""

import time

import pytest
from annotate_support import ENTER, Truth, answers_in, served
from selenium.webdriver.common.action_chains import ActionChains

from stages.artifacts.annotations import Annotations
from stages.artifacts.verify import verify_files

pytestmark = pytest.mark.slow
ARROW_RIGHT, ESCAPE = "\ue014", "\ue00c"


def strike(browser, *keys):
    for key in keys:
        ActionChains(browser.driver, duration=0).send_keys(key).perform()


def wait_until(true):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_open(browser):
    return browser.do("return document.querySelector('#review').open")


def captions(browser):
    return browser.do("return [...document.querySelectorAll('#tiles b')].map((name) => name.textContent)")


def test_answers_are_changed_in_the_grid_and_at_full_size(place, browser):
    browser.faults()
    with served("d.h5", "p.h5", "-o", "a.h5", cwd=place) as server:
        browser.open(server.address)
        asked = []
        for key in "1239":
            asked.append(browser.settle()[1])
            browser.press(key)
        _, query = browser.settle()
        browser.click("#open-review")
        wait_until(lambda: len(captions(browser)) == 4)
        assert captions(browser) == ["person", "road", "building", "sky"]
        strike(browser, ARROW_RIGHT, "4")  # the second tile
        wait_until(lambda: captions(browser) == ["person", "pavement", "building", "sky"])
        strike(browser, ARROW_RIGHT, ENTER)  # the third one, at full size
        assert browser.settle() == ("open", asked[1])
        assert "Your earlier answer: building." in browser.text("#mode")
        strike(browser, "5")
        wait_until(lambda: is_open(browser) and "grass" in captions(browser))
        assert captions(browser) == ["grass", "pavement", "person", "sky"], "the last changed ones first"
        assert browser.do("return document.activeElement.dataset.query") == str(asked[1])
        strike(browser, ESCAPE)
        wait_until(lambda: browser.state() == ("open", query))
        shown = browser.do(
            "return [...document.querySelectorAll('#tiles img')].every((each) => each.complete && each.naturalWidth)"
        )
        assert shown
        answers = {answer["query"]: answer["classes"] for answer in answers_in(next((place / "a.h5.work").iterdir()))}
        assert answers == {asked[0]: [0], asked[1]: [4], asked[2]: [3], asked[3]: [8]}
    assert not browser.faults()


def test_answers_are_changed_after_finish_and_the_ledger_is_written_again(place, browser):
    truth = Truth(place, "i.h5")
    words = ("d.h5", "i.h5", "-o", "a.h5", "--grace", "0", "--annotator", "Ada")
    with served(*words, cwd=place) as server:
        browser.open(f"{server.address}&annotator=Ada")
        answered = browser.answer_all(truth)
        browser.wait_for("ended")
        assert server.end()[0] == 0
    before = Annotations(place / "a.h5")
    changed = answered[-1]
    with served(*words, "--edit", cwd=place) as server:
        browser.open(f"{server.address}&annotator=Ada")
        wait_until(lambda: is_open(browser))
        assert len(captions(browser)) == 6
        strike(browser, "9")  # the answer that was given last
        wait_until(lambda: "person" in captions(browser)[0])
        server.kill()
    with served(*words, cwd=place) as server:  # goes on without the option
        browser.open(f"{server.address}&annotator=Ada")
        wait_until(lambda: is_open(browser))
        assert captions(browser)[0] == "person"
        strike(browser, ESCAPE)
        wait_until(lambda: not is_open(browser))
        assert "press Finish to write the ledger again" in browser.text("#cover")
        browser.click("#finish")
        browser.click("#finish-dialog button.main")
        browser.wait_for("ended")
        assert server.end() == (0, "wrote a.h5: round 0, 6 answers, 0 queries open\n")
    after = Annotations(place / "a.h5")
    assert after.answers.label[changed] == 8
    others = [query for query in range(6) if query != changed]
    assert (after.answers.label[others] == before.answers.label[others]).all()
    assert after.digest != before.digest
    verify_files([place / "a.h5"])
