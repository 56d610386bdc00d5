"""What `alseg init` finds in a folder: images, masks, splits, groups, in the layouts people have."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.datasets.survey import Survey, groups_of, survey
from stages.runtime.errors import BadInput

IMAGE, MASK = np.full((6, 8, 3), 90, np.uint8), np.zeros((6, 8), np.uint8)


def fill(root: Path, *names: str) -> Path:
    """Images, and masks where a name has ``=mask``."""
    for name in names:
        name, is_mask, _ = name.partition("=mask")
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        form = {"jpg": "JPEG", "jpeg": "JPEG", "tif": "TIFF"}.get(path.suffix[1:].lower(), "PNG")
        Image.fromarray(MASK if is_mask else IMAGE).save(path, form)
    return root


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["a.jpg", "b.JPG", "c.jpeg"], {}),
        (["a.jpg", "a.png=mask"], None),  # nothing says which is the mask
        (["a.jpg", "a_mask.png=mask", "b.JPG", "b_mask.PNG=mask"], {"a.jpg": "a_mask.png", "b.JPG": "b_mask.PNG"}),
        (["1.png", "1_label.png=mask", "10.png", "10-gt.png=mask"], {"1.png": "1_label.png", "10.png": "10-gt.png"}),
        (["6399_sat.jpg", "6399_mask.png=mask"], {"6399_sat.jpg": "6399_mask.png"}),
        (["images/a.jpg", "masks/a.png=mask"], {"images/a.jpg": "masks/a.png"}),
        (["images/a.jpg", "Labels/A.png=mask"], {"images/a.jpg": "Labels/A.png"}),
        (["train/a.png", "trainannot/a.png=mask"], {"train/a.png": "trainannot/a.png"}),
        (["JPEGImages/a.jpg", "SegmentationClass/a.png=mask"], {"JPEGImages/a.jpg": "SegmentationClass/a.png"}),
        (
            ["train/images/a.jpg", "train/labels/a.png=mask", "test/images/a.jpg", "test/labels/a.png=mask"],
            {"train/images/a.jpg": "train/labels/a.png", "test/images/a.jpg": "test/labels/a.png"},
        ),
        (["images/a.jpg", "images/b.jpg", "masks/a_mask.png=mask"], {"images/a.jpg": "masks/a_mask.png"}),
        (["images/day1/a.jpg", "masks/day1/a.png=mask"], {"images/day1/a.jpg": "masks/day1/a.png"}),
    ],
)
def test_masks_are_found_by_their_names(names: list[str], pairs: dict[str, str] | None, tmp_path: Path) -> None:
    found = survey(fill(tmp_path, *names))
    if pairs is None:
        assert found.masks == {}
        return
    assert found.masks == pairs
    assert found.images == sorted(name for name in names if not name.endswith("=mask"))


def test_the_folder_of_masks_can_be_given(tmp_path: Path) -> None:
    fill(tmp_path, "pictures/a.png", "pictures/b.png", "ground/a.png=mask", "ground/c.png=mask")
    assert survey(tmp_path).masks == {}
    found = survey(tmp_path, Path("ground"))
    assert (found.images, found.masks) == (["pictures/a.png", "pictures/b.png"], {"pictures/a.png": "ground/a.png"})
    assert "1 of 2 images have masks, in ground, such as ground/a.png" in found.notes


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["notes/x.txt"], "contains no images"),
        (["a.jpg", "a_mask.png=mask", "images/b.jpg", "masks/b.png=mask"], "Pass the folder of the masks with --masks"),
        (
            ["a.jpg", "a.tif", "a_mask.png=mask"],
            "a.jpg, a.tif, a_mask.png: it is not clear which mask belongs to which",
        ),
        (["train/a.jpg", "b.jpg"], "1 images, such as b.jpg, are in no folder of a split, but others are in train"),
    ],
)
def test_what_can_be_read_in_two_ways_is_asked(names: list[str], sentence: str, tmp_path: Path) -> None:
    fill(tmp_path, *(name for name in names if not name.endswith(".txt")))
    with pytest.raises(BadInput) as error:
        survey(tmp_path)
    assert sentence in str(error.value)


def test_ids_are_short_and_unique(tmp_path: Path) -> None:
    found = survey(fill(tmp_path, "set/train/a.jpg", "set/test/a.jpg", "set/test/b.jpg"))
    assert list(found.ids.values()) == ["test/a", "test/b", "train/a"]
    assert found.splits == {"set/test/a.jpg": "test", "set/test/b.jpg": "test", "set/train/a.jpg": "train"}


def test_splits_by_lists(tmp_path: Path) -> None:
    fill(tmp_path, *(f"JPEGImages/{name}.jpg" for name in "abcd"))
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nb.jpg\n\n")
    (lists / "val.txt").write_text("JPEGImages/c.jpg SegmentationClass/c.png\n")
    found = survey(tmp_path)
    assert found.splits == {"JPEGImages/a.jpg": "train", "JPEGImages/b.jpg": "train", "JPEGImages/c.jpg": "val"}
    assert "splits by lists: 2 train, 1 val; 1 images are in no list and are left out" in found.notes
    (lists / "val.txt").write_text("a\n")
    with pytest.raises(BadInput, match="is also in split train"):
        survey(tmp_path)


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["IMG_1.jpg", "IMG_2.jpg", "IMG_3.jpg"], 3),  # one series of a camera says nothing
        (["a_001.jpg", "a_002.jpg", "b_001.jpg", "c_001.jpg"], 3),
        (["s1_x0_y0.png", "s1_x0_y512.png", "s2_x0_y0.png", "s3_x512_y0.png"], 3),
        (["day1/1.jpg", "day1/2.jpg", "day2/1.jpg", "day3/1.jpg"], 3),
        (["seq1-frame0001.png", "seq1-frame0002.png", "seq2-frame0001.png", "seq3-frame0001.png"], 3),
    ],
)
def test_images_of_one_series_are_a_group(names: list[str], groups: int) -> None:
    assert len(set(groups_of(names).values())) == groups


def test_sizes_are_upright_and_damage_is_told(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(IMAGE).save(tmp_path / "a.jpg", exif=exif)
    fill(tmp_path, "b.jpg")
    found: Survey = survey(tmp_path)
    assert found.sizes == {"a.jpg": (8, 6), "b.jpg": (6, 8)}
    (tmp_path / "c.jpg").write_bytes(b"no image")
    with pytest.raises(BadInput, match=r"c\.jpg cannot be decoded"):
        survey(tmp_path)


def test_bits_bands_and_pages_are_told_with_the_keys_that_read_them(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((6, 8, 5), np.uint16))
    np.save(tmp_path / "b.npy", np.zeros((6, 8, 5), np.uint16))
    found = survey(tmp_path)
    assert found.reading == {"bands": "all", "percentiles": [1, 99]}
    assert found.notes[0] == "2 images: 2 NPY, 8x6, 5 bands of 16 bits"
    assert found.notes[1].startswith('all bands go into the network (bands = "all"); the first three are shown')
    assert found.notes[2].startswith("values are scaled to 8 bits between the 1 and 99 % percentiles of the pool")
    np.save(tmp_path / "b.npy", np.zeros((6, 8, 7), np.uint16))
    with pytest.raises(BadInput, match=r"different numbers of bands \(5, 7\)"):
        survey(tmp_path)
    fill(tmp_path, "photo.jpg")  # arrays beside images are no images
    assert (survey(tmp_path).images, survey(tmp_path).reading) == (["photo.jpg"], {})
    pages = [Image.fromarray(IMAGE)] * 3
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(
        BadInput, match=r"stack\.tif contains 3 pictures\. Save each that you need as a file of its own"
    ):
        survey(tmp_path)


def test_shapes_that_somebody_drew_are_named(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "settings.json").write_text("{}")
    assert not any("shapes" in note for note in survey(tmp_path).notes)
    shape = '{"label": "tree", "points": [[0, 0], [4, 0], [0, 4]]}'
    (tmp_path / "a.json").write_text(
        f'{{"imagePath": "a.jpg", "imageHeight": 6, "imageWidth": 8, "shapes": [{shape}]}}'
    )
    note = survey(tmp_path).notes[-1]
    assert note.startswith(
        "shapes that somebody drew, such as a.json and 1 more files, are not read as masks: pass them"
    )
    assert "alseg import-labels" in note
