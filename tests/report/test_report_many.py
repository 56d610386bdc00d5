"""A report of many runs: neither its pictures nor what is read for it grow faster than the runs."""

import shutil

import numpy as np
import pytest
from PIL import Image
from report_support import ask
from worlds import random_masks, write_dataset

from stages.artifacts.hdf5 import Artifact
from stages.reporting.pictures import overlay
from stages.reporting.report.command import write_report
from stages.reporting.report.extent import MOST_PICTURES, Extent
from stages.reporting.report.pictures import WIDEST, WIDEST_OF_MANY, to_bytes
from stages.settings.base import StageSettings

pytestmark = pytest.mark.slow

RUNS = 30


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Thirty runs of three rounds over three images; copies, so that none is a seed of another."""
    folder = tmp_path_factory.mktemp("runs")
    dataset = write_dataset(folder / "d.h5", random_masks(["a", "b", "c"], (24, 32), 3), 3)
    first, ledger = folder / "run-00", None
    for number in range(3):
        ledger = ask(first / f"round-{number}", dataset, ledger)
    others = [folder / f"run-{number:02}" for number in range(1, RUNS)]
    return [first, *(shutil.copytree(first, other) for other in others)]


@pytest.fixture
def drawn(monkeypatch):
    """How many overlays are drawn; they are noise, which no format makes small, instead of figures."""
    noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    picture, calls = to_bytes(Image.fromarray(noise), "PNG", compress_level=0), []

    def draw(*arguments):
        calls.append(arguments)
        return picture

    monkeypatch.setattr(overlay, "draw", draw)
    return calls


def counted_calls(monkeypatch, owner, name):
    calls, real = [], getattr(owner, name)

    def call(*arguments, **named):
        calls.append(arguments)
        return real(*arguments, **named)

    monkeypatch.setattr(owner, name, call)
    return calls


def test_pictures_and_bytes_of_thirty_runs_are_bounded(runs, drawn, tmp_path, capsys):
    write_report(runs, tmp_path / "r.html", None, "last", 3, "evaluation")
    page = (tmp_path / "r.html").read_text()
    assert 2 * RUNS <= len(drawn) <= MOST_PICTURES
    assert page.count('class="picture"') == len(drawn)
    told = "To keep the page small, overlays show 1 image of each run, the last round."
    assert told in page
    assert told in capsys.readouterr().out
    assert len(page) < 8e6  # of noise; drawings and photographs take a quarter


def test_what_is_read_grows_with_the_runs_and_not_with_their_pairs(runs, drawn, tmp_path, monkeypatch):
    opened = counted_calls(monkeypatch, Artifact, "__init__")
    loaded = counted_calls(monkeypatch, StageSettings, "load")
    counts = []
    for number in (4, 8, 16):
        opened.clear()
        loaded.clear()
        write_report(runs[:number], tmp_path / "r.html", None, "last", 1, "evaluation")
        counts.append((len(opened), len(loaded)))
    for less, more in ((0, 1), (1, 2)):
        for few, many in zip(counts[less], counts[more], strict=True):
            assert many <= 2.1 * few, counts


@pytest.mark.parametrize(
    "runs, images, wanted",
    [
        (1, 3, Extent(1, 5, 3, WIDEST)),
        (2, 3, Extent(2, 5, 3, WIDEST)),
        (4, 3, Extent(4, 5, 3, WIDEST_OF_MANY)),
        (7, 3, Extent(7, 3, 3, WIDEST_OF_MANY)),
        (16, 3, Extent(16, 1, 3, WIDEST_OF_MANY)),
        (30, 3, Extent(30, 1, 1, WIDEST_OF_MANY)),
        (1, 40, Extent(1, 1, 40, WIDEST_OF_MANY)),
        (500, 1, Extent(50, 1, 1, WIDEST_OF_MANY)),
    ],
)
def test_fewer_rounds_before_fewer_images_before_fewer_runs(runs, images, wanted):
    found = Extent.of(runs, images)
    assert found == wanted
    assert found.runs * found.images * (4 * found.rounds + 2) <= MOST_PICTURES
    assert (found.left_out(runs, images) == "") == (runs <= 4 and images == 3)
