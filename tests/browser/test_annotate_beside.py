"""What helps to answer: keys of any layout, the search for a class, fingers, original pixels, guidelines."""

import io
import time

import numpy as np
import pytest
from annotate_support import ENTER, Truth, answers_in, launch, served
from PIL import Image

from stages.answering.browser.guide import read_guide
from stages.answering.browser.originals import find_originals
from stages.artifacts.dataset import Dataset
from stages.commands import prepare, score, select
from stages.runtime.errors import BadInput
from stages.settings.prepare import PrepareSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings

SCALE = 6  # of the originals below, in sizes of the dataset's images
MANY = 64  # classes
LAYOUTS = {  # what a press is -> the class that it names, in the order 1 to 9, 0, then q, w, e, ...
    "AZERTY, digits without Shift": ({"key": "é", "code": "Digit2"}, 1),
    "AZERTY, a digit that is a minus": ({"key": "-", "code": "Digit6"}, 5),
    "AZERTY, letters as they are written": ({"key": "w", "code": "KeyZ"}, 11),
    "Cyrillic": ({"key": "й", "code": "KeyQ"}, 10),
    "Cyrillic with Caps Lock": ({"key": "Й", "code": "KeyQ", "modifierCapsLock": True}, 10),
    "an input method": ({"key": "Process", "code": "KeyW"}, 11),
    "Caps Lock": ({"key": "Q", "code": "KeyQ", "modifierCapsLock": True}, 10),
    "Caps Lock and Shift": ({"key": "q", "code": "KeyQ", "shiftKey": True, "modifierCapsLock": True}, 33),
}


def strike(browser, **press):
    browser.do("document.dispatchEvent(new KeyboardEvent('keydown', arguments[0]))", press)
    browser.settle()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A dataset of two resized photographs with 64 classes and ten pixels each; photos/ has the originals."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "photos").mkdir()
    rng = np.random.default_rng(3)
    for name in ("one", "two"):
        small = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        large = Image.fromarray(small).resize((96 * SCALE, 72 * SCALE), Image.Resampling.BICUBIC)
        large.save(folder / "photos" / f"{name}.png")
    classes = ", ".join(f'{{ name = "{name}", color = [{i}, 9, 9] }}' for i, name in enumerate(names()))
    (folder / "d.toml").write_text(f'name = "d"\nclasses = [{classes}]\n[splits.train]\nimages = "{{id}}.png"\n')
    data = prepare.run(str(folder / "d.toml"), folder / "photos", folder / "d.h5", PrepareSettings(scale=1 / SCALE))
    scores = score.run(data, folder / "s.h5", ScoreSettings(measure="random"))
    select.run(data, scores, folder / "q.h5", SelectSettings(rule="uniform", budget=10))
    return folder


def names():
    return [f"{'Poa' if i % 2 else 'Carex'} species number {i}" for i in range(MANY - 1)] + ["Éclat de rocher"]


@pytest.mark.slow
def test_any_keyboard_names_the_class_and_the_others_are_found_by_name(world, tmp_path, browser):
    browser.faults()
    with served(world / "d.h5", world / "q.h5", "-o", tmp_path / "a.h5", cwd=world) as server:
        browser.open(server.address)
        for press, _ in LAYOUTS.values():
            strike(browser, **press)
        browser.do("document.dispatchEvent(new KeyboardEvent('keydown', {key: '/'}))")
        for key in ("e", "c", "l", "a", ENTER):
            browser.press(key)
        browser.settle()
        answers = answers_in(next((tmp_path / "a.h5.work").iterdir()))
        expected = [label for _, label in LAYOUTS.values()]
        assert [answer["classes"] for answer in answers] == [[label] for label in (*expected, MANY - 1)]
        box = browser.do("return document.querySelector('#finish').getBoundingClientRect().bottom <= innerHeight")
        assert box, "Finish is within sight however many classes there are"
        assert not browser.faults()


@pytest.mark.slow
def test_two_fingers_zoom_and_the_original_pixels_appear(world, tmp_path, browser):
    with served(world / "d.h5", world / "q.h5", "-o", tmp_path / "a.h5", cwd=world) as server:
        browser.open(server.address)
        truth = Dataset(world / "d.h5")
        scale = "return import('./view.js').then((view) => view.currentScale())"
        before = browser.do(scale)
        middle = browser.do(
            "const box = document.querySelector('#marks').getBoundingClientRect();"
            "return [box.left + box.width / 2, box.top + box.height / 2]"
        )

        def touch(kind, *offsets):
            points = [{"x": middle[0] + offset, "y": middle[1], "id": n} for n, offset in enumerate(offsets)]
            browser.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        touch("touchStart", -50)
        touch("touchStart", -50, 50)
        for step in range(1, 6):
            touch("touchMove", -50 - 10 * step, 50 + 10 * step)
        touch("touchEnd")
        assert browser.do(scale) == pytest.approx(2 * before, rel=0.1)

        image = browser.text("#caption").split(" ")[0]
        original = np.asarray(Image.open(world / "photos" / f"{image}.png")).astype(int)
        coarse = np.kron(truth.image(image), np.ones((SCALE, SCALE, 1), np.uint8)).astype(int)
        assert np.abs(original - coarse).max() > 20, "otherwise this test tells nothing"
        deadline = time.monotonic() + 30
        while True:
            drawn = browser.canvas(marks=False)
            y, x = browser.driver.execute_async_script(
                "const done = arguments[0]; const box = document.querySelector('#marks').getBoundingClientRect();"
                "import('./view.js').then(({ pointAt }) => {"
                " const { y, x } = pointAt({ clientX: box.left + 300, clientY: box.top + 200 }); done([y, x]); })"
            )
            height = drawn.shape[0]
            ratio = height / browser.do("return document.querySelector('#view').clientHeight")
            shown = drawn[int(200 * ratio), int(300 * ratio)]
            expected = original[int(y * SCALE), int(x * SCALE)]
            if np.abs(shown - expected).max() <= 6:
                break
            assert time.monotonic() < deadline, (shown, expected)


def test_only_files_that_show_the_same_are_originals(world, tmp_path):
    data = Dataset(world / "d.h5")
    found = find_originals(data, None, ("one", "two"))
    assert found.size("one") == (72 * SCALE, 96 * SCALE)
    tile = np.asarray(Image.open(io.BytesIO(found.tile("one", 1, 0, 0))))
    whole = Image.open(world / "photos" / "one.png")
    assert np.array_equal(tile, np.asarray(whole.reduce(2)))
    for level, row, column in ((0, 9, 0), (0, 0, 9), (9, 0, 0), (40, 0, 0)):
        assert found.tile("one", level, row, column) is None
    other = tmp_path / "others"
    other.mkdir()
    Image.open(world / "photos" / "two.png").transpose(Image.Transpose.ROTATE_180).save(other / "one.png")
    (other / "two.png").write_bytes(b"damaged")
    wrong = find_originals(data, str(other), ("one", "two"))
    assert wrong.tile("one", 0, 0, 0) is None, "it shows something else"
    assert wrong.size("one") is None
    assert wrong.size("two") is None
    with pytest.raises(BadInput, match=r"contains no originals of .*d\.h5\. Pass the folder with the image files"):
        find_originals(data, str(world / "none"), ("one", "two"))


GUIDE = """# Rules
Grass is *below* **10 cm**, see ![a leaf](leaf.png) and ![out](../secret.png) and ![x](http://evil.example/x.png).
- one <script>alert(1)</script>
  1. inner
- [page](https://example.org/) and [bad](javascript:alert(1))
"""


@pytest.fixture
def guide(tmp_path):
    Image.new("RGB", (30, 20), (9, 200, 9)).save(tmp_path / "secret.png")
    (tmp_path / "rules").mkdir()
    Image.new("RGB", (30, 20), (9, 200, 9)).save(tmp_path / "rules" / "leaf.png")
    path = tmp_path / "rules" / "guide.md"
    path.write_text(GUIDE)
    return path


@pytest.mark.slow
def test_guidelines_are_shown_without_html_and_without_files_elsewhere(place, guide, browser):
    browser.faults()
    with served("d.h5", "p.h5", "-o", "a.h5", "--guide", guide, cwd=place) as server:
        browser.open(server.address)
        browser.press("?")
        deadline = time.monotonic() + 30
        while not browser.do("return document.querySelector('#guide img')?.naturalWidth"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        html = browser.do("return document.querySelector('#guide-text').innerHTML")
        assert html.startswith("<h2>Rules</h2><p>Grass is <em>below</em> <strong>10 cm</strong>, see <img ")
        assert "and [out] and [x]." in html
        assert "<li>one &lt;script&gt;alert(1)&lt;/script&gt;<ol><li>inner</li></ol></li>" in html
        assert '<a href="https://example.org/" target="_blank" rel="noopener noreferrer">page</a> and bad' in html
        browser.press("1")  # the drawer does not keep anybody from answering
        assert "1 of 60 answered" in browser.text("#progress")
        client = server.client()
        assert client.send("GET", "/guide/0")[0] == 200
        for path in ("/guide/1", "/guide/-1", "/guide/x", "/guide/..%2fsecret.png", "/tile/0/0/0/0", "/tile/0/0/-1/0"):
            assert client.send("GET", path)[0] == 404
        assert client.send("GET", "/guide", headers={"Authorization": None})[0] == 403
        assert not browser.faults()


def test_guidelines_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(BadInput, match=r"Cannot read .*none\.md: No such file or directory\. Pass a Markdown file"):
        read_guide(tmp_path / "none.md")
    (tmp_path / "a.md").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(BadInput, match="it is not UTF-8 text"):
        read_guide(tmp_path / "a.md")
    (tmp_path / "b.md").write_bytes(b" " * (1 << 20) + b"..")
    with pytest.raises(BadInput, match="has more than 1 MiB"):
        read_guide(tmp_path / "b.md")


@pytest.mark.slow
def test_files_that_do_not_fit_are_named(place):
    for words, told in (
        (("--guide", "none.md"), "Cannot read none.md"),
        (("--originals", "nowhere"), "nowhere contains no originals of d.h5"),
        (("--suggest", "none.safetensors"), "none.safetensors"),
    ):
        process = launch("d.h5", "p.h5", "-o", "a.h5", *words, cwd=place)
        out, err = process.communicate()
        assert process.returncode == 2, out + err
        assert told in err
        assert "Traceback" not in err
    assert not (place / "a.h5.work").exists()


def test_thumbnails_show_the_query(made):
    from stages.answering.browser.thumbnails import SIZE, thumbnail
    from stages.answering.questions import Questions

    truth = Truth(made, "r.h5", "regions.h5")
    questions = Questions(truth.data, truth.queries, truth.regions)
    picture = np.asarray(Image.open(io.BytesIO(thumbnail(questions, 0)))).astype(int)
    assert picture.shape[0] <= SIZE[0]
    assert picture.shape[1] <= SIZE[1]
    image = truth.data.image(questions.image(0)).astype(int)
    inside = truth.regions.labels(questions.image(0)) == (
        truth.queries.region[0] - truth.regions.rows[questions.image(0)].start
    )
    bright = image[inside].mean()
    assert picture.max() >= bright * 0.9, "the region is as bright as in the image"
    points = questions.middle(0)
    assert inside[int(points[0]), int(points[1])]
