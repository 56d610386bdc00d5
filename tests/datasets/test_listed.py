"""A table of files in place of patterns: read, checked, and part of what makes a dataset stale."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.artifacts.dataset import Dataset
from stages.commands import prepare
from stages.datasets.listed import ListedFile, file_table, read_file_table
from stages.runtime.errors import BadInput
from stages.settings.prepare import PrepareSettings

DESCRIPTION = """
name = "listed"
files = "files.csv"
classes = [{ name = "a", color = [0, 0, 0] }, { name = "b", color = [9, 9, 9] }]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    for name in ("a.jpg", "b.JPG", "c.png"):
        Image.fromarray(np.full((16, 16, 3), 9, np.uint8)).save(tmp_path / "pictures" / name)
    Image.fromarray(np.ones((16, 16), np.uint8)).save(tmp_path / "of c.png")
    (tmp_path / "d.toml").write_text(DESCRIPTION)
    return tmp_path


def prepared(folder: Path, table: str) -> Path:
    (folder / "files.csv").write_text(table)
    return prepare.run(str(folder / "d.toml"), folder, folder / "d.h5", PrepareSettings())


def test_images_masks_and_splits_are_those_of_the_table(folder: Path) -> None:
    table = "image,mask,split,id\npictures/a.jpg,,,\npictures/b.JPG,,train,second\npictures/c.png,of c.png,test,\n"
    with Dataset(prepared(folder, table)) as data:
        assert data.splits == {"pictures/a": "train", "second": "train", "pictures/c": "test"}
        assert data.has_masks("test")
        assert not data.has_masks("train")


def test_another_split_in_the_table_makes_the_dataset_stale(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepared(folder, "image,split\npictures/a.jpg,train\npictures/b.JPG,val\n")
    capsys.readouterr()
    prepared(folder, "image,split\npictures/a.jpg,train\npictures/b.JPG,val\n")
    assert "is up to date" in capsys.readouterr().out
    with Dataset(prepared(folder, "image,split\npictures/a.jpg,train\npictures/b.JPG,test\n")) as data:
        assert data.splits == {"pictures/a": "train", "pictures/b": "test"}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    rows = [ListedFile('odd, "name"', "train", "a b/c,d.png", ""), ListedFile("é", "test", "é.png", "m/é.png")]
    (tmp_path / "t.csv").write_bytes(file_table(rows))
    assert list(read_file_table(tmp_path / "t.csv").rows) == rows


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("", "has the columns . Use image and any of id, split, mask."),
        ("file,mask\na,b\n", "has the columns file, mask. Use image"),
        ("image\n", "lists no images. Add a row for each image."),
        ("image\n../x.png\n", "line 2: image = '../x.png' is no path below --root"),
        ("image\n/x.png\n", "line 2: image = '/x.png' is no path below --root"),
        ("image,mask\na.png,/m.png\n", "line 2: mask = '/m.png' is no path below --root"),
        ("image,id\na.png,x\nb.png,x\n", "has the id 'x' more than once"),
        ("image,id\na.png,../x\n", "id = '../x' is no name of an image"),
        ("image\npictures/none.png\n", "none.png, which does not exist. Check --root and the table."),
    ],
)
def test_faults(table: str, sentence: str, folder: Path) -> None:
    with pytest.raises(BadInput) as error:
        prepared(folder, table)
    assert sentence in str(error.value)
