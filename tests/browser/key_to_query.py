"""Measures how long the page takes from a key to the next query on the screen: `python -m tests.browser.key_to_query`.

In a browser, on the built-in scenes: the time from the event of the key to the frame that shows the next query, over
``COUNT`` pixels, and the load of the machine meanwhile.
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from annotate_support import Browser, served  # noqa: E402

from stages.commands import prepare, score, select  # noqa: E402
from stages.settings.prepare import PrepareSettings  # noqa: E402
from stages.settings.score import ScoreSettings  # noqa: E402
from stages.settings.select import SelectSettings  # noqa: E402

COUNT = 100
PAUSE = 0.3  # seconds between keys: a quick annotator
WATCH = """
    window.times = [];
    let pressed = 0;
    document.addEventListener("keydown", () => { pressed = performance.now(); }, { capture: true });
    new MutationObserver(() => requestAnimationFrame(() => {
      if (pressed) window.times.push(performance.now() - pressed);
      pressed = 0;
    })).observe(document.getElementById("caption"), { childList: true, characterData: true, subtree: true });
"""


def measured(folder: Path) -> list[float]:
    """Milliseconds of each key."""
    data = prepare.run("scenes", None, folder / "d.h5", PrepareSettings())
    scores = score.run(data, folder / "s.h5", ScoreSettings(measure="random", unit="pixel"))
    select.run(data, scores, folder / "q.h5", SelectSettings(rule="uniform", budget=10))
    browser = Browser(folder / "chromium")
    try:
        with served("d.h5", "q.h5", "-o", "a.h5", cwd=folder) as server:
            browser.open(server.address)
            browser.do(WATCH)
            for number in range(COUNT):
                browser.press("123456"[number % 6])
                time.sleep(PAUSE)
            return browser.do("return window.times")
    finally:
        browser.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        times = sorted(measured(Path(folder)))
    highest = times[int(0.95 * len(times))]
    load = os.getloadavg()[0]
    print(
        f"key to next query: median {statistics.median(times):.0f} ms, 95 % below {highest:.0f} ms, "
        f"worst {times[-1]:.0f} ms ({len(times)} keys, load {load:.1f} on {os.cpu_count()} cores)"
    )


if __name__ == "__main__":
    main()
