"""What `prepare` notices of changed files."""

import os

import numpy as np
import pytest
from PIL import Image

from stages.artifacts.dataset import Dataset
from stages.commands import prepare
from stages.settings.prepare import PrepareSettings

DESCRIPTION = """
name = "own"
classes = [{ name = "a", color = [0, 0, 0] }, { name = "b", color = [9, 9, 9] }]
[splits.train]
images = "images/{id}.bmp"
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.toml").write_text(DESCRIPTION)
    (tmp_path / "images").mkdir()
    for name in "xy":
        draw(tmp_path / "images" / f"{name}.bmp", 10)
    return tmp_path


def draw(path, value):
    """An image whose file has the same size whatever the value is."""
    Image.fromarray(np.full((16, 16, 3), value, np.uint8)).save(path)


def prepared(place, verify):
    return prepare.run("own.toml", place, place / "d.h5", PrepareSettings(workers=1, verify_files=verify))


def pixel(dataset):
    with Dataset(dataset) as data:
        return int(data.image("x")[0, 0, 0])


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("replaced", [False, True], ids=["rewritten", "replaced"])
def test_an_image_of_equal_size_and_time_counts_as_changed(place, verify, replaced, capsys):
    image = place / "images/x.bmp"
    before = image.stat()
    prepared(place, verify)
    if replaced:
        draw(place / "new.bmp", 200)
        os.utime(place / "new.bmp", ns=(before.st_atime_ns, before.st_mtime_ns))
        os.replace(place / "new.bmp", image)
    else:
        draw(image, 200)
        os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = image.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert pixel(prepared(place, verify)) == 200
    assert "input source changed" in capsys.readouterr().out


def test_an_untouched_dataset_is_up_to_date_and_files_may_be_read(place, capsys):
    for verify in (False, True):
        prepared(place, verify)
        capsys.readouterr()
        prepared(place, verify)
        assert "is up to date" in capsys.readouterr().out


def test_files_with_other_times_and_the_same_bytes_are_unchanged_where_they_are_read(place, capsys):
    prepared(place, True)
    for name in "xy":
        image = place / f"images/{name}.bmp"
        (place / "copy").write_bytes(image.read_bytes())
        os.replace(place / "copy", image)
    capsys.readouterr()
    prepared(place, True)
    assert "is up to date" in capsys.readouterr().out
