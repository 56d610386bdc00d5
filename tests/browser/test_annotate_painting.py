"""Exact labels that are painted in a real browser: the ledger has the pixels that the tools cover, and their cost."""

import time

import numpy as np
import pytest
from annotate_support import ENTER, Truth, answers_in, served
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from stages.artifacts.annotations import Annotations

pytestmark = pytest.mark.slow
WORDS = ("d.h5", "e.h5", "--superpixels", "regions.h5", "-o", "a.h5", "--grace", "0")
NAMES = {"sky": "1", "road": "3", "tree": "6"}
SKY, ROAD, TREE = 0, 2, 5
# The point of the image, as (y, x), at a number of screen pixels right of and below the middle of the view
POINT = """
    const [right, down, done] = arguments;
    import('./view.js').then(({ pointAt }) => {
      const box = document.querySelector('#marks').getBoundingClientRect();
      const at = { clientX: box.left + box.width / 2 + right, clientY: box.top + box.height / 2 + down };
      const { y, x } = pointAt(at);
      done([y, x]);
    });
"""


class Painter:
    """The mouse on the image; places are screen pixels from the middle of the view."""

    def __init__(self, browser):
        self.browser = browser
        self.surface = browser.driver.find_element("id", "marks")

    def point(self, right, down):
        return self.browser.driver.execute_async_script(POINT, right, down)

    def drag(self, *places):
        mouse = ActionChains(self.browser.driver, duration=0)
        mouse.move_to_element_with_offset(self.surface, *places[0]).click_and_hold()
        for place in places[1:]:
            mouse.move_to_element_with_offset(self.surface, *place)
        mouse.release().perform()

    def click(self, *places):
        for place in places:
            ActionChains(self.browser.driver, duration=0).move_to_element_with_offset(
                self.surface, *place
            ).click().perform()

    def shortcut(self, key):
        ActionChains(self.browser.driver, duration=0).key_down(Keys.CONTROL).send_keys(key).key_up(
            Keys.CONTROL
        ).perform()


def inside_polygon(corners, shape):
    """(H,W) bool: pixels whose centres are inside, by the even-odd rule."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    found = np.zeros(shape, bool)
    for (y0, x0), (y1, x1) in zip(corners, corners[1:] + corners[:1], strict=True):
        crosses = (y0 <= y) != (y1 <= y)
        with np.errstate(divide="ignore", invalid="ignore"):
            found ^= crosses & (x < x0 + (y - y0) / (y1 - y0) * (x1 - x0))
    return found


def test_brush_polygon_fill_and_undo_give_these_pixels(place, browser):
    truth = Truth(place, "e.h5", "regions.h5")
    browser.faults()
    queries = truth.queries
    with served(*WORDS, cwd=place) as server:
        browser.open(server.address)
        painter = Painter(browser)
        _, query = browser.settle()
        assert browser.press(ENTER) == ("open", query)
        assert browser.text("#notice") == "Paint the region first."

        browser.press(NAMES["sky"], "r")  # everything
        browser.press(NAMES["road"], "p")
        corners = [(-60, -60), (60, -60), (0, 60)]
        painter.click(*corners)
        browser.press(ENTER)  # closes the polygon
        browser.press(NAMES["tree"], "b", "]", "]")
        painter.drag((-40, 0), (40, 0))
        painter.shortcut("z")
        _, second = browser.press(ENTER)
        assert second != query

        points = [painter.point(*corner) for corner in corners]
        ends = [painter.point(-40, 0), painter.point(40, 0)]
        browser.press(NAMES["sky"], "r", NAMES["road"], "p")
        painter.click(*corners, corners[0])  # a click on the first corner closes it
        browser.press(NAMES["tree"], "b")
        size = float(browser.do("return document.querySelector('#size').value"))
        painter.drag((-40, 0), (0, 0), (40, 0))
        painter.shortcut("z")
        painter.shortcut("y")
        _, third = browser.press(ENTER)
        assert third not in (query, second)

        browser.press("x")  # don't know
        browser.wait_for("ended")
        assert server.end()[0] == 0
    assert not browser.faults()

    answers = {answer["query"]: answer for answer in answers_in(next((place / "a.h5.work").glob("*.jsonl")))}
    assert {query: answers[query].get("clicks", 0) for query in (query, second, third)} == {
        query: 1 + 3 + 1, second: 1 + 3 + 1, third: 0,
    }  # fmt: skip
    ledger = Annotations(place / "a.h5")
    rows = {int(region): row for row, region in enumerate(ledger.answers.region)}
    assert ledger.answers.clicks[rows[queries.region[second]]] == 5
    assert 0 < ledger.answers.seconds[rows[queries.region[second]]] < 60
    assert ledger.answers.state[rows[queries.region[third]]] == 3

    image = queries.ids[queries.image[second]]
    region = truth.regions.labels(image) == queries.region[second] - truth.regions.rows[image].start
    painted = ledger.label_map(image)
    polygon = inside_polygon(points, region.shape) & region
    y, x = np.mgrid[: region.shape[0], : region.shape[1]] + 0.5
    (y0, x0), (y1, x1) = ends
    assert y0 == pytest.approx(y1)
    away = np.hypot(y - y0, x - np.clip(x, x0, x1))
    surely, never = (away < size / 2 - 0.7) & region, (away > size / 2 + 0.7) & region
    assert surely.any()
    assert (painted[surely] == TREE).all()
    assert (painted[never & polygon] == ROAD).all()
    assert (painted[never & ~polygon] == SKY).all()
    votes = np.bincount(painted[region], minlength=10)[:9]
    assert np.array_equal(ledger.answers.votes[rows[queries.region[second]]][:9], votes)
    first = truth.queries.region[query]
    assert ledger.answers.votes[rows[first]][TREE] == 0, "the brush was undone"
    assert ledger.answers.votes[rows[first]].sum() == (truth.below(query).size)


def test_a_mask_is_painted_over_a_reload_and_void_is_asked_about(place, browser):
    with served("d.h5", "k.h5", "-o", "a.h5", cwd=place) as server:
        browser.open(server.address)
        painter = Painter(browser)
        _, query = browser.settle()
        browser.press(NAMES["road"], "]", "]", "]")
        painter.drag((-30, 0), (30, 10), (0, 50))
        drafts = place / "a.h5.work"
        deadline = time.monotonic() + 30
        while not list(drafts.rglob(f"{query}-*.png")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        browser.driver.refresh()
        assert browser.settle() == ("open", query)
        assert "The mask as it was when the page was left." in browser.text("#mode")
        browser.press(ENTER)
        assert "are unpainted and become void. Press Enter again" in browser.text("#notice")
        assert browser.press(ENTER)[1] != query
        (answer,) = answers_in(next(drafts.glob("*.jsonl")))
        client = server.client()
        status, content = client.send("GET", f"/mask/{query}/{answer['mask']}")
        assert status == 200
        values, counts = np.unique(np.frombuffer(content, np.uint8), return_counts=True)
        assert values.tolist() == [ROAD, 252]
        assert counts[0] > 50
        assert "clicks" not in answer, "what was painted before the reload was not counted"
