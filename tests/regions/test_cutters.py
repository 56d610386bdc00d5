"""Regions of the colours: the counts of the specifications, sound maps for every size, refusals instead of crashes."""

import sys
import types

import numpy as np
import pytest

from stages.regions.components import connected_components
from stages.regions.cut import cut
from stages.regions.cutters import CountSettings
from stages.regions.cutters.grid import grid
from stages.regions.cutters.oracle import oracle
from stages.regions.cutters.seeds import equalised, fitting_blocks, seeds_blocks
from stages.regions.opencv import require_ximgproc
from stages.runtime.errors import BadInput

METHODS = ["seeds", "slic", "lsc", "grid"]
COLOURS = ["lab", "hsv", "equalised-hsv"]
SIZES = [(1, 1), (1, 5), (5, 1), (2, 2), (2, 100), (11, 2), (3, 3), (8, 8), (7, 13), (31, 17), (16, 120), (64, 48)]


def patches(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Soft patches of colour with noise: (H,W,3) u8."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3))
    image = coarse.repeat(16, 0).repeat(16, 1)[:height, :width] + generator.integers(-9, 10, (height, width, 3))
    return image.clip(0, 255).astype(np.uint8)


def opencv_slots(height: int, width: int, count: int, levels: int) -> int:
    cv2 = require_ximgproc()
    machine = cv2.ximgproc.createSuperpixelSEEDS(width, height, 3, count, levels, 3, 2, True)
    return machine.getNumberOfSuperpixels()


def cut_or_refusal(image: np.ndarray, method: str, **own: object) -> tuple[np.ndarray | None, str]:
    try:
        return cut(image, method, **own), ""
    except BadInput as error:
        return None, str(error)


@pytest.mark.parametrize(
    ("height", "width", "count", "levels", "slots"),
    [
        (1024, 2048, 8192, 3, 8192),  # adaptive_superpixel.md, check 23
        (1024, 2048, 8192, 4, 8192),
        (1024, 2048, 8192, 5, 8192),
        (1024, 2048, 8192, None, 8192),
        (375, 500, 150, 5, 70),
        (375, 500, 200, 5, 165),
        (375, 500, 512, 5, 165),
        (375, 500, 2000, 5, 713),
        (1024, 2048, 2048, 5, 2048),  # multi_class_query.md, A1
        (375, 500, 183, 5, 70),
        (333, 500, 162, 5, 60),
        (320, 480, 150, 5, 150),
        (281, 500, 137, 5, 50),
        (256, 512, 512, 5, 512),  # madbal.md, 2
        (224, 400, 350, 5, 350),
        (300, 400, 468, 5, 108),
        (320, 400, 500, 5, 500),
        (266, 400, 415, 5, 96),
        (400, 400, 625, 5, 625),
        (304, 400, 475, 5, 475),
    ],
)
def test_seeds_slots_of_the_specifications(height, width, count, levels, slots):
    assert fitting_blocks(height, width, count, levels).slots == slots
    if height <= 400:
        assert opencv_slots(height, width, count, levels) == slots


def test_seeds_slots_are_those_of_opencv_for_any_size():
    generator = np.random.default_rng(1)
    compared = 0
    for _ in range(400):
        height, width = generator.integers(2, 300, 2).tolist()
        count, levels = int(generator.integers(1, height * width)), int(generator.integers(1, 8))
        blocks = seeds_blocks(height, width, count, levels)
        if blocks is not None and height * width < 40_000:
            assert blocks.slots == opencv_slots(height, width, count, levels), (height, width, count, levels)
            compared += 1
    assert compared > 50


def test_levels_by_default_come_closest_to_the_count_with_blocks_of_two_pixels():
    assert fitting_blocks(1024, 2048, 8192, None).levels == 4
    assert fitting_blocks(1024, 2048, 8192, None).block_width == 2
    assert fitting_blocks(360, 480, 2048, None).slots == 1728
    for height, width, count in [(360, 480, 2048), (375, 500, 183), (64, 128, 40), (90, 90, 500)]:
        chosen = fitting_blocks(height, width, count, None)
        assert min(chosen.block_height, chosen.block_width) >= 2
        for levels in range(2, 11):
            other = seeds_blocks(height, width, count, levels)
            if other is not None and min(other.block_height, other.block_width) >= 2:
                assert abs(other.slots - count) >= abs(chosen.slots - count)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("split", [False, True])
def test_every_pixel_has_one_id_and_every_id_occurs(method, split):
    image = patches(96, 131)
    labels = cut(image, method, split, count=48)
    assert labels.dtype == np.int32
    assert labels.shape == (96, 131)
    np.testing.assert_array_equal(np.unique(labels), np.arange(labels.max() + 1))
    assert 12 <= labels.max() + 1 <= 150
    np.testing.assert_array_equal(cut(image.copy(), method, split, count=48), labels)
    if split:
        np.testing.assert_array_equal(connected_components(labels, 4), labels)


@pytest.mark.parametrize("method", ["seeds", "slic", "lsc"])
def test_regions_follow_the_colours(method):
    """Two flat halves whose border lies on no grid: no region of seeds, slic or lsc has much of both."""
    image = np.full((64, 64, 3), (200, 40, 40), dtype=np.uint8)
    image[:, 27:] = (40, 60, 180)
    labels = cut(image, method, count=16)
    right = np.bincount(labels.ravel(), weights=(np.arange(64) >= 27)[None].repeat(64, 0).ravel())
    size = np.bincount(labels.ravel())
    assert np.minimum(right, size - right).sum() < 64 * 64 * 0.02


@pytest.mark.parametrize("colour", COLOURS)
def test_every_colour_space_gives_regions_of_its_own(colour):
    image = patches(96, 131)
    maps = {each: cut(image, "seeds", colour=each, count=48, bins=5) for each in COLOURS}
    others = [maps[each] for each in COLOURS if each != colour]
    assert all((maps[colour] != other).any() for other in others)


def test_published_chain_ignores_the_hue_and_the_default_does_not():
    """Hues of 90 and 210 degrees at equal saturation and value, beyond the first degree where SEEDS still bins it."""
    image = np.full((64, 64, 3), (120, 200, 40), dtype=np.uint8)
    image[:, 27:] = (40, 120, 200)
    border = {each: cut(image, "seeds", colour=each, count=16) for each in COLOURS}
    on_border = {each: (labels[:, 26] != labels[:, 27]).mean() for each, labels in border.items()}
    assert on_border["lab"] > 0.9
    assert on_border["hsv"] > 0.9
    assert on_border["equalised-hsv"] < 0.5


def test_equalisation_is_joint_over_the_channels():
    image = np.array([[[0, 0, 10], [10, 20, 20]]], dtype=np.uint8)
    np.testing.assert_allclose(equalised(image), [[[2 / 6, 2 / 6, 4 / 6], [4 / 6, 1, 1]]], rtol=1e-12)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("method", METHODS)
def test_tiny_images_are_cut_or_refused(method, size):
    """A crash of OpenCV would end this very process."""
    for count in (1, 4, 10, size[0] * size[1], 5000):
        for own in ({"levels": None}, {"levels": 2}, {"levels": 5}) if method == "seeds" else ({},):
            labels, refusal = cut_or_refusal(patches(*size), method, count=count, **own)
            if labels is None:
                assert method != "grid"
                assert "--method grid" in refusal
            else:
                assert labels.shape == size
                np.testing.assert_array_equal(np.unique(labels), np.arange(labels.max() + 1))


@pytest.mark.parametrize("method", METHODS)
def test_ordinary_small_images_are_not_refused(method):
    assert cut(patches(64, 48), method, count=12).max() > 0


def test_histograms_beyond_what_opencv_addresses_are_refused():
    told = r"^SEEDS with 32 bins and 5 levels needs \d+ histogram bins .* can address\. Lower --bins or --levels\.$"
    with pytest.raises(BadInput, match=told):
        cut(np.zeros((1024, 2048, 3), dtype=np.uint8), "seeds", count=8192, levels=5, bins=32)


def test_count_follows_the_size_when_pixels_per_region_are_given():
    settings = CountSettings(region_pixels=1024)
    assert settings.number(375, 500) == 183
    assert settings.number(10, 10) == 1
    assert CountSettings(count=77).number(375, 500) == 77


def test_grid_of_the_specification_has_2048_boxes():
    labels = cut(np.zeros((1024, 2048, 3), dtype=np.uint8), "grid", region_pixels=1024)
    assert labels.max() + 1 == 2048
    assert (np.bincount(labels.ravel()) == 1024).all()
    assert labels[31, 31] == 0
    assert labels[0, 32] == 1
    assert labels[32, 0] == 64


def test_grid_clips_at_the_edges():
    labels = grid(np.zeros((3, 5, 3), np.uint8), CountSettings(region_pixels=4))
    np.testing.assert_array_equal(labels, [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]])


def test_oracle_keeps_a_class_inside_another_and_leaves_void_out():
    mask = np.full((8, 9), 23, dtype=np.uint8)
    mask[2:5, 3:6] = 20
    labels = oracle(mask, None)
    np.testing.assert_array_equal(labels, (mask == 20).astype(int))  # adaptive_superpixel.md, check 21
    mask[:, 0] = 255
    assert (oracle(mask, None)[:, 0] == -1).all()
    assert oracle(mask, None).max() == 1


def test_oracle_joins_over_corners():
    np.testing.assert_array_equal(oracle(np.array([[1, 0], [0, 1]], dtype=np.uint8), None), [[0, 1], [1, 0]])


@pytest.mark.parametrize("installed", [None, types.SimpleNamespace(__version__="4.0")])
def test_opencv_without_its_contributed_modules_is_named_with_the_remedy(monkeypatch, installed):
    monkeypatch.setitem(sys.modules, "cv2", installed)
    told = (
        r"superpixels.*\. Install opencv-contrib-python-headless and uninstall all other opencv packages: they "
        r"overwrite each other\.$"
    )
    with pytest.raises(BadInput, match=told):
        require_ximgproc()


def test_threads_of_opencv_are_left_as_they_were():
    cv2 = require_ximgproc()
    before = cv2.getNumThreads()
    cut(patches(40, 40), "slic", count=9)
    assert cv2.getNumThreads() == before
