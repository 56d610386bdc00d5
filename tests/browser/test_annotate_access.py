"""Every control has a name and every text a contrast; axe-core agrees, if ALSEG_AXE is the path of its axe.min.js."""

import os
import time
from pathlib import Path

import pytest
from annotate_support import served

pytestmark = pytest.mark.slow
STATES = {  # what is opened, and how it is closed
    "question": ("", ""),
    "answers": ("#open-review", "document.querySelector('#review').close()"),
    "look": ("#open-look", "document.querySelector('#look').hidePopover()"),
    "name": ("#who", "document.querySelector('#name-dialog').close()"),
    "finish": ("#finish", "document.querySelector('#finish-dialog').close()"),
}
UNNAMED = """
    const shown = (each) => each.checkVisibility() && !each.closest('[aria-hidden]');
    const named = (each) => each.ariaLabel || each.innerText?.trim() || each.labels?.[0]?.innerText.trim();
    const controls = 'button, input, select, a, dialog, [role], [popover], aside, ol, ul';
    const lists = (each) => ['OL', 'UL'].includes(each.tagName) && each.children.length === 0;
    return [...document.querySelectorAll(controls)].filter(shown)
      .filter((each) => !named(each) && !each.getAttribute('aria-labelledby') && !lists(each))
      .filter((each) => !['status', 'alert'].includes(each.getAttribute('role'))).map((each) => each.outerHTML);
"""
FAINT = """
    const light = (text) => {
      const [red, green, blue] = text.match(/[\\d.]+/g).map(Number).map((each) => each / 255)
        .map((each) => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
      return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const ground = (each) => {
      for (let at = each; at; at = at.parentElement) {
        const colour = getComputedStyle(at).backgroundColor;
        if (!/, 0\\)$/.test(colour)) return colour;
      }
      return 'rgb(255, 255, 255)';
    };
    const texts = [...document.querySelectorAll('body *')].filter((each) => each.checkVisibility() && !each.disabled
      && [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
    return texts.map((each) => {
      const [one, other] = [light(getComputedStyle(each).color), light(ground(each))].sort((a, b) => b - a);
      return [each.outerHTML.slice(0, 80), (one + 0.05) / (other + 0.05)];
    }).filter(([, contrast]) => contrast < 4.5);
"""
AXE = """
    const done = arguments[0];
    axe.run(document, { resultTypes: ['violations'] })
      .then(({ violations }) => done(violations.map(({ id, nodes }) => [id, nodes[0].html])));
"""


@pytest.mark.parametrize("queries", ["p.h5", "k.h5"])
def test_controls_are_named_and_texts_are_clear(queries, place, browser):
    axe = os.environ.get("ALSEG_AXE")
    with served("d.h5", queries, "-o", "a.h5", cwd=place) as server:
        browser.open(server.address)
        if queries == "p.h5":
            browser.press("1")
        if axe:
            browser.do(Path(axe).read_text(encoding="utf-8"))
        for name, (opens, closes) in STATES.items():
            if opens:
                browser.click(opens)
                time.sleep(0.1)
            assert browser.do(UNNAMED) == [], name
            assert browser.do(FAINT) == [], name
            if axe:
                assert browser.driver.execute_async_script(AXE) == [], name
            browser.do(closes)
            browser.settle()
        ids = browser.do("return [...document.querySelectorAll('[id]')].map((each) => each.id)")
        assert len(ids) == len(set(ids))
