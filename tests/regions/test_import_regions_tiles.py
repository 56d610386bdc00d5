"""Region maps and masks of large files become regions of the tiles that a dataset was cut from."""

import json

import numpy as np
import pytest
from PIL import Image
from tiles_support import description, noise

from stages.artifacts.superpixels import Superpixels
from stages.commands import import_regions, prepare
from stages.runtime.errors import BadInput
from stages.settings.import_regions import ImportRegionsSettings
from stages.settings.prepare import PrepareSettings

SIZE, HALF = (40, 96), 48
LEFT, RIGHT = "field_y00000_x00000", "field_y00000_x00048"


def prepared(folder, **settings):
    """Two tiles of 40 x 48 pixels, side by side."""
    (folder / "images").mkdir()
    Image.fromarray(noise(SIZE)).save(folder / "images" / "field.png")
    text = description(folder / "d.toml", "size = [40, 48]", masks=False, ending="png")
    return prepare.run(str(text), folder, folder / "d.h5", PrepareSettings(**settings))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("tiles"))


def taken(dataset, tmp_path, *files, **settings):
    made = ImportRegionsSettings(**{"rest": "none", "min_pixels": 1, "workers": 1} | settings)
    return Superpixels(import_regions.run(dataset, files, tmp_path / "r.h5", made))


def numbers(found, image):
    """The map (H,W) of one tile, with the numbers in the file; -1 = no region."""
    rows = found.rows[image]
    source = np.append(found.read("regions/source")[rows.start : rows.stop], -1)
    return source[found.labels(image)]


@pytest.fixture
def chequers():
    """Regions of 10 x 8 pixels, whose border is not that of the tiles, and none in one corner."""
    labels = np.add.outer(np.arange(40) // 10 * 100, np.arange(96) // 9).astype(np.int32)
    labels[:5, :5] = -1
    return labels


@pytest.mark.parametrize("ending", [".npy", ".png"])
def test_a_map_of_the_whole_file_is_cut(ending, chequers, dataset, tmp_path):
    expected = chequers if ending == ".npy" else np.where(chequers < 0, 999, chequers)
    if ending == ".npy":
        np.save(tmp_path / "field.npy", expected)
    else:
        Image.fromarray(expected.astype(np.uint16)).save(tmp_path / "field.png")
    found = taken(dataset, tmp_path, tmp_path / f"field{ending}")
    assert np.array_equal(numbers(found, LEFT), expected[:, :HALF])
    assert np.array_equal(numbers(found, RIGHT), expected[:, HALF:])


def test_tiles_that_were_resized(chequers, tmp_path):
    dataset = prepared(tmp_path, scale=0.5)
    np.save(tmp_path / "field.npy", chequers)
    found = taken(dataset, tmp_path, tmp_path / "field.npy")
    assert found.labels(LEFT).shape == (20, 24)
    assert np.array_equal(numbers(found, RIGHT)[8, 4:8], chequers[17, HALF + 9 : HALF + 17 : 2])


def test_masks_of_the_whole_file_are_cut(dataset, tmp_path):
    """A polygon across the border and a mask on the right: both keep their places in the file as numbers."""
    mask = np.zeros(SIZE, bool)
    mask[30:38, 70:90] = True
    lengths = np.diff(np.concatenate([[0], np.flatnonzero(np.diff(mask.T.ravel())) + 1, [mask.size]])).tolist()
    shapes = [
        {"segmentation": [[40, 10, 60, 10, 60, 20, 40, 20]]},
        {"segmentation": {"size": list(SIZE), "counts": lengths}},
    ]
    about = {"file_name": "field.png", "height": SIZE[0], "width": SIZE[1], "id": 0}
    (tmp_path / "all.json").write_text(json.dumps({"image": about, "annotations": shapes}))
    found = taken(dataset, tmp_path, tmp_path / "all.json")
    expected = np.full(SIZE, -1)
    expected[10:20, 40:60] = 0
    expected[mask] = 1
    assert np.array_equal(numbers(found, LEFT), expected[:, :HALF])
    assert np.array_equal(numbers(found, RIGHT), expected[:, HALF:])


def test_maps_of_another_size_and_twice(chequers, dataset, tmp_path):
    np.save(tmp_path / "field.npy", chequers[:, :-1])
    with pytest.raises(BadInput, match=r"is a map of 40 x 95 pixels, but tiles were cut from a file of 40 x 96\. Pass"):
        taken(dataset, tmp_path, tmp_path / "field.npy")
    np.save(tmp_path / f"{LEFT}.npy", chequers[:, :HALF])
    with pytest.raises(BadInput, match=f"both have image {LEFT}"):
        taken(dataset, tmp_path, tmp_path / "field.npy", tmp_path / f"{LEFT}.npy")
    np.save(tmp_path / "meadow.npy", chequers)
    with pytest.raises(BadInput, match="meadow is not an image of the dataset"):
        taken(dataset, tmp_path, tmp_path / "meadow.npy")


def test_maps_of_tiles_still_fit(chequers, dataset, tmp_path):
    for image, part in ((LEFT, chequers[:, :HALF]), (RIGHT, chequers[:, HALF:])):
        np.save(tmp_path / f"{image}.npy", part)
    found = taken(dataset, tmp_path, tmp_path / f"{LEFT}.npy", tmp_path / f"{RIGHT}.npy")
    assert np.array_equal(numbers(found, RIGHT), chequers[:, HALF:])
