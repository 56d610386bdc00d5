"""Regions of other programs: numbered maps of all depths, masks that overlap, what fills the rest, small regions."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as coco
from worlds import write_dataset

from stages.artifacts.superpixels import Superpixels
from stages.commands import import_regions
from stages.regions.imported import without_small
from stages.runtime.errors import BadInput
from stages.settings.import_regions import ImportRegionsSettings

SIZE = (6, 8)
QUARTERS = np.array([[10, 20], [30, 70000]]).repeat(3, 0).repeat(4, 1)
"""Four regions of 3 x 4 pixels."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    masks = {name: np.zeros(SIZE, np.uint8) for name in ("site/one", "two")}
    return write_dataset(tmp_path_factory.mktemp("regions") / "d.h5", masks, 2)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("single") / "d.h5", {"one": np.zeros(SIZE, np.uint8)}, 2)


def taken(dataset, tmp_path, *files, name="r.h5", **settings):
    made = ImportRegionsSettings.load({"workers": 1, "rest": "none"} | settings)
    return Superpixels(import_regions.run(dataset, files, tmp_path / name, made))


def written(path, content):
    path.write_text(json.dumps(content))
    return path


def runs(mask):
    packed = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": packed["counts"].decode()}


def mask_of(top, left, height, width, size=SIZE):
    mask = np.zeros(size, bool)
    mask[top : top + height, left : left + width] = True
    return mask


@pytest.mark.parametrize("kind", ["u8.png", "u16.png", "u16.tif", "i32.tif", "f32.tif", "rgb.png", "npy"])
def test_numbered_maps_of_all_depths(kind, single, tmp_path):
    """The number of a region in the file is kept beside its own."""
    numbers = QUARTERS if kind in ("i32.tif", "f32.tif", "rgb.png", "npy") else np.minimum(QUARTERS, 200)
    path = tmp_path / f"one.{kind[-3:]}"
    types = {"u8": np.uint8, "u16": np.uint16, "i32": np.int32, "f32": np.float32}
    if kind == "npy":
        np.save(path, numbers)
    elif kind == "rgb.png":
        Image.fromarray(np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], 2).astype(np.uint8)).save(
            path
        )
    else:
        Image.fromarray(numbers.astype(types[kind.partition(".")[0]])).save(path)
    found = taken(single, tmp_path, path)
    assert found.numbers.tolist() == np.unique(numbers).tolist()
    assert found.labels("one").tolist() == np.searchsorted(np.unique(numbers), numbers).tolist()
    assert found.region_sizes.tolist() == [12] * 4
    assert (found.method, found.attributes["oracle_privilege"]) == ("imported", "none")


def test_maps_of_the_original_size_are_resized(tmp_path):
    from stages.commands import prepare
    from stages.settings.prepare import PrepareSettings

    Image.new("RGB", (32, 24)).save(tmp_path / "one.jpg")
    text = 'name = "x"\nclasses = [{ name = "a", color = [0, 0, 0] }]\n[splits.train]\nimages = "{id}.jpg"\n'
    (tmp_path / "x.toml").write_text(text)
    data = prepare.run(str(tmp_path / "x.toml"), tmp_path, tmp_path / "d.h5", PrepareSettings(long_side=8))
    np.save(tmp_path / "one.npy", QUARTERS.repeat(4, 0).repeat(4, 1))
    found = taken(data, tmp_path, tmp_path / "one.npy")
    assert found.labels("one").tolist() == np.searchsorted(np.unique(QUARTERS), QUARTERS).tolist()
    np.save(tmp_path / "one.npy", QUARTERS.repeat(4, 0))
    with pytest.raises(BadInput, match=r"is a map of 24 x 8 pixels, not 6 x 8\. Pass maps of the images"):
        taken(data, tmp_path, tmp_path / "one.npy", name="x.h5")


def test_masks_of_sam_with_smaller_ones_on_top_and_the_rest_cut(single, tmp_path):
    """A mask of 4 x 6 hides none of one of 2 x 2 in it, whichever comes first; the rest is cut by squares of 2 x 2."""
    masks = [mask_of(1, 1, 2, 2), mask_of(0, 0, 4, 6)]
    path = written(tmp_path / "one.json", [{"segmentation": runs(mask), "area": int(mask.sum())} for mask in masks])
    found = taken(single, tmp_path, path, rest="grid", region_pixels=4)
    expected = np.where(masks[0], 0, np.where(masks[1], 1, -1))
    labels = found.labels("one")
    assert np.array_equal(np.where(expected >= 0, labels, -1), expected)
    assert found.region_sizes[:2].tolist() == [4, 20]
    assert found.region_sizes[2:].tolist() == [4] * 6, "rows 0 to 3 of columns 6 and 7, and rows 4 and 5"
    assert found.numbers.tolist() == list(range(8))
    bare = taken(single, tmp_path, path, name="bare.h5")
    assert np.array_equal(bare.labels("one"), expected)
    assert bare.region_sizes.tolist() == [4, 20]


def test_one_coco_file_for_all_images_and_uncompressed_runs(dataset, tmp_path):
    images = [
        {"id": number, "file_name": name, "height": 6, "width": 8} for number, name in ((5, "one.jpg"), (6, "two"))
    ]
    counts = [0, 24, 24]  # down the columns: the left half
    shapes = [
        {"id": 1, "image_id": 6, "category_id": 1, "segmentation": {"size": [6, 8], "counts": counts}},
        {"id": 2, "image_id": 5, "category_id": 1, "segmentation": [[4, 0, 8, 0, 8, 6, 4, 6]]},
    ]
    document = {"categories": [{"id": 1, "name": "thing"}], "images": images, "annotations": shapes}
    found = taken(dataset, tmp_path, written(tmp_path / "masks.json", document))
    assert found.labels("two").tolist() == [[0] * 4 + [-1] * 4] * 6
    assert found.labels("site/one").tolist() == [[-1] * 4 + [0] * 4] * 6


def test_stacks_of_masks_and_a_number_for_the_background(single, tmp_path):
    np.save(tmp_path / "one.npy", np.stack([mask_of(0, 0, 6, 6), mask_of(2, 2, 2, 2)]))
    found = taken(single, tmp_path, tmp_path / "one.npy")
    assert found.region_sizes.tolist() == [32, 4]
    np.save(tmp_path / "one.npy", QUARTERS)
    found = taken(single, tmp_path, tmp_path / "one.npy", name="b.h5", background=10)
    assert found.numbers.tolist() == [20, 30, 70000]
    assert (found.labels("one")[:3, :4] == -1).all()


def test_small_regions_join_the_neighbour_with_the_longest_border(single, tmp_path):
    """2 pixels between region 3 (4 pixels of border) and region 5 (2): they become part of region 3."""
    numbers = np.full(SIZE, 5)
    numbers[:, :4] = 3
    numbers[2:4, 3] = 9
    np.save(tmp_path / "one.npy", numbers)
    found = taken(single, tmp_path, tmp_path / "one.npy", min_pixels=3)
    assert found.numbers.tolist() == [3, 5]
    assert found.labels("one").tolist() == [[0] * 4 + [1] * 4] * 6
    assert taken(single, tmp_path, tmp_path / "one.npy", name="k.h5", min_pixels=2).numbers.tolist() == [3, 5, 9]


@given(
    arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(-1, 6)), st.integers(1, 20)
)
def test_what_is_left_after_joining(values, least):
    """Each region is large enough or has no neighbour; what joined is one of the regions that were there."""
    from stages.regions.components import connected_components

    labels = connected_components(values, 4)
    group = without_small(labels, least)
    joined = np.where(labels >= 0, np.append(group, -1)[labels], -1)
    assert np.array_equal(group[group], group)
    assert np.array_equal(joined >= 0, labels >= 0)
    for region in np.unique(joined[joined >= 0]):
        inside = joined == region
        padded = np.pad(joined, 1, constant_values=-1)
        grown = np.pad(inside, 1)
        around = np.zeros_like(grown)
        for axis in (0, 1):
            around |= np.roll(grown, 1, axis) | np.roll(grown, -1, axis)
        neighbours = set(padded[around & ~grown].tolist()) - {-1}
        assert inside.sum() >= least or not neighbours


@pytest.mark.parametrize(
    ("name", "content", "settings", "sentence"),
    [
        ("one.npy", np.zeros(SIZE), {}, r"one\.npy contains no map of regions"),
        ("one.npy", np.zeros((5, 8), int), {}, r"is a map of 5 x 8 pixels, not 6 x 8"),
        ("one.npy", np.full(SIZE, 2**31), {}, r"has a region 2147483648, more than 32 bits hold"),
        ("three.npy", np.zeros(SIZE, int), {}, r"three is not an image of the dataset"),
        ("one.npy", np.zeros(SIZE, int), {"rest": "oracle"}, r"--rest oracle cuts the ground truth"),
        ("one.json", {"categories": [], "images": [], "annotations": []}, {}, r"has masks of 0 images"),
        ("one.json", [{"segmentation": {"size": [6, 8], "counts": [9]}}], {}, r"annotation 0 has runs that do not add"),
        ("one.txt", {}, {}, r"contains no regions\. Pass files \(\.pkl, \.npy, "),
    ],
)
def test_faults(name, content, settings, sentence, single, tmp_path):
    path = tmp_path / name
    if isinstance(content, np.ndarray):
        np.save(path, content)
    else:
        written(path, content)
    with pytest.raises(BadInput, match=sentence):
        taken(single, tmp_path, path, **settings)
    assert not (tmp_path / "r.h5").exists()


def test_every_image_has_one_file(dataset, tmp_path):
    for name in ("one.npy", "two.npy", "two_gtFine_labelIds.png.npy"):
        np.save(tmp_path / name, np.zeros(SIZE, int))
    with pytest.raises(BadInput, match=r"both have image two\. Keep one of them"):
        taken(dataset, tmp_path, tmp_path)
    with pytest.raises(
        BadInput, match=r"has no map of 1 of 2 images, such as two\. Pass the maps or masks of the whole"
    ):
        taken(dataset, tmp_path, tmp_path / "one.npy")
