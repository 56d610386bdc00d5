"""Renews the pictures of the page in docs/images (`make screenshots`), or makes them elsewhere.

python tests/browser/screenshots.py [WIDTH HEIGHT FOLDER]
"""

import io
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402
from annotate_support import Browser, Client, Served, Truth, key_of, served  # noqa: E402
from conftest import DESCRIPTION  # noqa: E402
from PIL import Image  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402

from stages.answering.exchange.values import UNPAINTED  # noqa: E402
from stages.answering.questions import Questions  # noqa: E402
from stages.commands import extract_superpixels, prepare, score, select  # noqa: E402
from stages.settings.extract_superpixels import ExtractSettings  # noqa: E402
from stages.settings.prepare import PrepareSettings  # noqa: E402
from stages.settings.score import ScoreSettings  # noqa: E402
from stages.settings.select import SelectSettings  # noqa: E402

QUERIES = {
    "annotate-pixel": "pixels.h5",
    "annotate-region": "regions.h5",
    "annotate-class-set": "sets.h5",
    "annotate-painting": "masks.h5",
    "annotate-answers": "pixels.h5",
}
OF_REGIONS = ("regions.h5", "sets.h5")
BEFORE = 24  # answers in the grid
CAR, POLE, PERSON = 6, 7, 8
STEP = 6  # colours are rounded to steps of this: nothing that shows, and a picture of half the size


def make_queries(folder: Path) -> None:
    """Large scenes, and queries of every kind about them."""
    (folder / "large.toml").write_text(
        DESCRIPTION.replace("height = 96", "height = 720").replace("width = 128", "width = 960")
    )
    data = prepare.run(str(folder / "large.toml"), None, folder / "d.h5", PrepareSettings())
    cut = extract_superpixels.run(data, folder / "cut.h5", ExtractSettings(count=160, workers=1))
    pixels = score.run(data, folder / "p.h5", ScoreSettings(measure="random"))
    regions = score.run(data, folder / "r.h5", ScoreSettings(measure="random", unit="region"), superpixels=cut)
    select.run(data, pixels, folder / "pixels.h5", SelectSettings(rule="uniform", budget=50))
    images = score.run(data, folder / "i.h5", ScoreSettings(measure="random", unit="image"))
    select.run(data, images, folder / "masks.h5", SelectSettings(rule="top", budget=6))
    for name, answer in (("regions.h5", "dominant"), ("sets.h5", "class-set")):
        chosen = SelectSettings(rule="top", budget=300, answer=answer)
        select.run(data, regions, folder / name, chosen, superpixels=cut)


def worth_showing(truth: Truth, questions: Questions, query: int) -> bool:
    """Something small in the middle of an image; of regions a car or person, of sets something with several classes."""
    below = truth.below(query)
    found = np.unique(below)
    y0, x0, y1, x1 = questions.boxes[query]
    inside = y0 > 200 and x0 > 200 and y1 < 520 and x1 < 760
    if truth.queries.answer == "class-set":
        return bool(inside and len(seen_in(truth, query)) == 3)
    if truth.queries.answer == "dominant":
        found = np.bincount(below).argmax()
    return bool(inside and np.isin(found, (CAR, POLE, PERSON)).all())


def seen_in(truth: Truth, query: int) -> list[int]:
    """The classes of a region that an eye sees."""
    below = truth.below(query)
    return np.flatnonzero(np.bincount(below, minlength=256)[:255] >= 0.08 * len(below)).tolist()


def lead_to(wanted: int, truth: Truth, client: Client) -> None:
    """Answers truthfully what comes before the query that is to be shown."""
    situation = client.ask()
    while situation["question"]["query"] != wanted:
        below = truth.below(situation["question"]["query"])
        labels = [label for label in np.unique(below).tolist() if label < 255]
        one = labels if truth.queries.answer == "class-set" else labels[:1]
        given = {"classes": one} if one else {"void": True}
        _, situation = client.answer(situation, **given, seconds=2 + len(below) % 3)
    client.post("/leave")


def shoot(browser: Browser, server: Served, truth: Truth, picture: str) -> np.ndarray:
    """The page as (H,W,3) u8, the image in it rounded."""
    questions = Questions(truth.data, truth.queries, truth.regions)
    if picture == "annotate-painting":
        return shoot_painting(browser, server, truth)
    if picture == "annotate-answers":
        return shoot_answers(browser, server, truth, questions)
    wanted = next(query for query in questions.order[6:] if worth_showing(truth, questions, query))
    client = server.client()
    client.annotator = "Ada"
    lead_to(wanted, truth, client)
    browser.open(server.address)
    if truth.queries.answer == "class-set":
        browser.press(*map(key_of, seen_in(truth, wanted)))
    return picture_of(browser)


def shoot_painting(browser: Browser, server: Served, truth: Truth) -> np.ndarray:
    """The page with a mask that lacks a class."""
    browser.open(server.address)
    _, query = browser.settle()
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        mask = truth.data.mask(truth.queries.ids[truth.queries.image[query]])
        Image.fromarray(np.where(mask == CAR, np.uint8(UNPAINTED), mask)).save(file.name)
        browser.choose_file(Path(file.name))
    browser.press(key_of(CAR))
    ActionChains(browser.driver).move_to_element(browser.driver.find_element("id", "marks")).perform()
    return picture_of(browser)


def shoot_answers(browser: Browser, server: Served, truth: Truth, questions: Questions) -> np.ndarray:
    """The grid of answers."""
    client = server.client()
    client.annotator = "Ada"
    lead_to(questions.order[BEFORE], truth, client)
    browser.open(server.address)
    browser.click("#open-review")
    return picture_of(browser)


def picture_of(browser: Browser) -> np.ndarray:
    time.sleep(1)
    shades = np.array(Image.open(io.BytesIO(browser.driver.get_screenshot_as_png())).convert("RGB"))
    image = shades[:, : browser.do("return document.querySelector('main').clientWidth")]
    image[:] = np.minimum((image.astype(int) + STEP // 2) // STEP * STEP, 255)
    return shades


def save(page: np.ndarray, path: Path) -> None:
    Image.fromarray(page).save(path, optimize=True)
    print(path, path.stat().st_size // 1000, "kB")


def main(width: int = 1280, height: int = 800, target: Path = ROOT / "docs" / "images") -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_queries(folder)
        browser = Browser(folder / "chromium")
        inside, outside = browser.do("return [innerWidth, innerHeight]"), browser.driver.get_window_size()
        browser.driver.set_window_size(width + outside["width"] - inside[0], height + outside["height"] - inside[1])
        for picture, queries in QUERIES.items():
            regions = "cut.h5" if queries in OF_REGIONS else None
            options = () if regions is None else ("--superpixels", regions)
            with served("d.h5", queries, "-o", f"{picture}.h5", "--annotator", "Ada", *options, cwd=folder) as server:
                save(shoot(browser, server, Truth(folder, queries, regions), picture), target / f"{picture}.png")
        browser.close()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]), *map(Path, sys.argv[3:4]))
