"""A small world of queries to answer, and the browser that answers them."""

import os
import shutil
from pathlib import Path

import pytest

pytest.register_assert_rewrite("annotate_support")

from annotate_support import CHROMIUM, DESCRIPTION, DRIVER, Browser  # noqa: E402

from stages.commands import annotate_simulate, extract_superpixels, prepare, score, select  # noqa: E402
from stages.settings.annotate_simulate import AnnotateSettings  # noqa: E402
from stages.settings.extract_superpixels import ExtractSettings  # noqa: E402
from stages.settings.prepare import PrepareSettings  # noqa: E402
from stages.settings.score import ScoreSettings  # noqa: E402
from stages.settings.select import SelectSettings  # noqa: E402


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """The dataset with queries of every kind and their simulated answers; never changed by a test.

    p: 60 pixels, m: 300 pixels, r: 30 regions by dominant class, c: 30 by class set, e: 3 by exact labels, i: 6 images
    by class, o: by all their classes, k: 6 by mask.
    """
    folder = tmp_path_factory.mktemp("made")
    (folder / "tiny.toml").write_text(DESCRIPTION)
    data = prepare.run(str(folder / "tiny.toml"), None, folder / "d.h5", PrepareSettings())
    cut = ExtractSettings(count=24, workers=1)
    regions = extract_superpixels.run(data, folder / "regions.h5", cut)
    random = {unit: ScoreSettings(measure="random", unit=unit) for unit in ("pixel", "region", "image")}
    pixels = score.run(data, folder / "ps.h5", random["pixel"])
    areas = score.run(data, folder / "rs.h5", random["region"], superpixels=regions)
    images = score.run(data, folder / "os.h5", random["image"])
    chosen = {
        "p": (pixels, None, SelectSettings(rule="uniform", budget=10)),
        "m": (pixels, None, SelectSettings(rule="uniform", budget=50)),
        "r": (areas, regions, SelectSettings(rule="top", budget=30)),
        "c": (areas, regions, SelectSettings(rule="top", budget=30, answer="class-set")),
        "e": (areas, regions, SelectSettings(rule="top", budget=3, answer="precise")),
        "o": (images, None, SelectSettings(rule="top", budget=6, image_answer="classes")),
        "k": (images, None, SelectSettings(rule="top", budget=6)),
        "i": (images, None, SelectSettings(rule="top", budget=6, image_answer="class")),
    }
    for name, (scores, superpixels, settings) in chosen.items():
        queries = select.run(data, scores, folder / f"{name}.h5", settings, superpixels=superpixels)
        truthful = AnnotateSettings.load({}, offered={"trim": 0, "presence_share": 0})
        annotate_simulate.run(data, queries, folder / f"{name}-simulated.h5", truthful, superpixels=superpixels)
    return folder


@pytest.fixture
def place(made, tmp_path) -> Path:
    """The test's own copy of that."""
    folder = tmp_path / "place"
    shutil.copytree(made, folder)
    return folder


def require_chromium() -> None:
    if CHROMIUM.exists() and DRIVER.exists():
        return
    reason = f"needs {CHROMIUM} and {DRIVER} (Debian's packages chromium and chromium-driver)"
    if os.environ.get("ALSEG_BROWSER") == "required":  # .ci/run found or installed it
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A browser that all tests share, each with a server and so an address of its own."""
    require_chromium()
    chromium = Browser(tmp_path_factory.mktemp("chromium"))
    yield chromium
    chromium.close()


@pytest.fixture(scope="session")
def other_browser(tmp_path_factory):
    """A second browser, which shares nothing with the first."""
    require_chromium()
    chromium = Browser(tmp_path_factory.mktemp("other-chromium"))
    yield chromium
    chromium.close()
