"""Masks in MATLAB files, and what others may put into them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from stages.artifacts.dataset import Dataset
from stages.commands.prepare import run
from stages.datasets.mask_files import read_mask
from stages.runtime.errors import BadInput
from stages.settings.prepare import PrepareSettings

MASK = np.array([[0, 1, 20], [255, 15, 0]], np.uint8)


def saved(path: Path, value: object, compress: bool = True) -> Path:
    savemat(path, {"GTcls": value}, do_compression=compress)
    return path


@pytest.mark.parametrize("compress", [True, False])
def test_the_segmentation_is_read_as_stored(compress, tmp_path):
    value = {"Boundaries": np.zeros((20, 1)), "Segmentation": MASK, "CategoriesPresent": np.array([1, 15, 20])}
    found = read_mask(saved(tmp_path / "a.mat", value, compress), "index")
    assert found.dtype == np.uint8
    assert found.tolist() == MASK.tolist()


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"Other": MASK}, "contains no mask GTcls.Segmentation"),
        (MASK, "contains no mask GTcls.Segmentation"),
        ({"Segmentation": MASK.astype(float)}, "is not a table of bytes"),
        ({"Segmentation": np.array(["x"], object)}, "is not a table of bytes"),
        ({"Segmentation": np.zeros((0, 0), np.uint8)}, "is not a table of bytes"),
    ],
)
def test_other_contents_are_refused(value, sentence, tmp_path):
    with pytest.raises(BadInput, match=sentence):
        read_mask(saved(tmp_path / "a.mat", value), "index")


def test_damaged_large_and_coloured_files_are_refused(tmp_path):
    path = saved(tmp_path / "a.mat", {"Segmentation": MASK})
    content = path.read_bytes()
    with pytest.raises(BadInput, match=r'Set masks.encoding = "index"'):
        read_mask(path, "color")
    for damaged in (b"", b"x" * 300, content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(BadInput, match="it is damaged or of another format"):
            read_mask(path, "index")
    path.write_bytes(content + bytes(1 << 20))
    with pytest.raises(BadInput, match="larger than 1 MiB"):
        read_mask(path, "index")


def test_the_augmented_set_is_prepared_from_png_and_matlab_masks(tmp_path):
    root = tmp_path / "root"
    for folder in ("JPEGImages", "SegmentationClass", "SBD/cls", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    image, mask = np.zeros((8, 9, 3), np.uint8), np.full((8, 9), 3, np.uint8)
    for id in "abc":
        Image.fromarray(image).save(root / f"JPEGImages/{id}.jpg")
    for id in "ac":
        Image.fromarray(mask).save(root / f"SegmentationClass/{id}.png")
    for id in "ab":
        saved(root / f"SBD/cls/{id}.mat", {"Segmentation": np.full((8, 9), 7, np.uint8)})
    lists = {"ImageSets/Segmentation/train": "a", "ImageSets/Segmentation/val": "c", "SBD/train": "ab", "SBD/val": "c"}
    for name, ids in lists.items():
        (root / f"{name}.txt").write_text("\n".join(ids))
    with Dataset(run("voc2012-aug", root, tmp_path / "aug.h5", PrepareSettings())) as data:
        assert {id: data.splits[id] for id in data.all_ids} == {"a": "train", "b": "train", "c": "val"}
        assert [int(data.mask(id).max()) for id in "abc"] == [3, 7, 3]
