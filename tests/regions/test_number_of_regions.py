"""How many regions an image is cut into, and images that cannot be cut."""

import numpy as np
import pytest
from worlds import write_dataset

from stages.artifacts.superpixels import Superpixels
from stages.commands import extract_superpixels
from stages.runtime.errors import BadInput
from stages.settings.extract_superpixels import ExtractSettings


def cut(folder, sizes, **values):
    draw = np.random.default_rng(0)
    images = {name: draw.integers(0, 256, (*size, 3)).astype(np.uint8) for name, size in sizes.items()}
    masks = {name: np.zeros(size, np.uint8) for name, size in sizes.items()}
    data = write_dataset(folder / "d.h5", masks, 2, images=images)
    settings = ExtractSettings.load({"workers": 1, "bins": 4, **values})
    return Superpixels(extract_superpixels.run(data, folder / "s.h5", settings))


def test_far_fewer_regions_than_asked_for_are_told(tmp_path, capsys):
    """As native CamVid with 5 levels: OpenCV halves a grid of blocks of 2 pixels four times, 45 // 2 = 22 rows to 1."""
    assert cut(tmp_path, {"a": (90, 120), "b": (90, 120)}, region_pixels=256, levels=5).count == 2 * 6
    told = capsys.readouterr().out
    assert "Warning: 6 regions per image instead of 42. Change --levels, --count or --region-pixels.\n" in told


def test_the_number_asked_for_is_not(tmp_path, capsys):
    assert cut(tmp_path, {"a": (64, 96)}, region_pixels=256, levels=5).count == 24
    assert "Warning" not in capsys.readouterr().out


def test_an_image_that_cannot_be_cut_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"^b: SEEDS cannot cut an image of 7 x 201 pixels into 10 regions of at least"):
        cut(tmp_path, {"a": (64, 96), "b": (7, 201)}, region_pixels=256, levels=5)
