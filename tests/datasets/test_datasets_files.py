from pathlib import Path

import pytest

from stages.datasets.description import DatasetDescription, load_description
from stages.datasets.files import find_samples
from stages.datasets.patterns import find_matches

SHARED = Path(__file__).parents[2].parent / "shared"


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def describe(**splits: dict[str, str]) -> DatasetDescription:
    classes = [{"name": "a", "color": [0, 0, 0]}]
    return DatasetDescription.model_validate({"name": "own", "classes": classes, "splits": splits})


def test_images_and_masks_are_paired_by_their_fields_and_sorted(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for split, ids in {"train": ["bonn_2", "bonn_1", "aachen_9"], "val": ["ulm_1"]}.items():
        for id in ids:
            city = id.split("_")[0]
            touch(root, f"leftImg8bit/{split}/{city}/{id}_leftImg8bit.png")
            touch(
                root, f"gtFine/{split}/{city}/{id}_gtFine_labelIds.png", f"gtFine/{split}/{city}/{id}_gtFine_color.png"
            )
    touch(root, "leftImg8bit/train/bonn/.hidden_leftImg8bit.png", "leftImg8bit/train/bonn/notes.txt")
    samples, faults = find_samples(load_description("cityscapes"), root)
    assert faults == []
    assert [(sample.split, sample.id) for sample in samples] == [
        ("train", "aachen_9"), ("train", "bonn_1"), ("train", "bonn_2"), ("val", "ulm_1"),
    ]  # fmt: skip
    assert samples[0].image == root / "leftImg8bit/train/aachen/aachen_9_leftImg8bit.png"
    assert samples[0].mask == root / "gtFine/train/aachen/aachen_9_gtFine_labelIds.png"


def test_list_files_choose_the_images_of_a_split(tmp_path: Path) -> None:
    for id in "2007_1", "2007_2", "2007_3":
        touch(tmp_path, f"JPEGImages/{id}.jpg", f"SegmentationClass/{id}.png")
    touch(tmp_path, "JPEGImages/unlabelled.jpg")
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_3\n\n2007_1\r\n")
    (lists / "val.txt").write_text("2007_2\n")
    samples, faults = find_samples(load_description("voc2012"), tmp_path)
    assert faults == []
    assert [(sample.split, sample.id) for sample in samples] == [
        ("train", "2007_1"), ("train", "2007_3"), ("val", "2007_2"),
    ]  # fmt: skip


def test_patterns(tmp_path: Path) -> None:
    touch(tmp_path, "a[1]/x_x_7.png", "a[1]/x_y_8.png", "a1/x_x_9.png", "a[1]/deep/x_x_6.png")
    assert [match.fields for match in find_matches(tmp_path, "a[1]/{scene}_{scene}_{id}.png")] == [
        {"scene": "x", "id": "7"}
    ]
    assert [match.fields["id"] for match in find_matches(tmp_path, "*/*_{id}.png")] == ["9", "7", "8"]


def test_a_wildcard_in_the_mask_pattern_and_a_split_without_masks(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.jpg", "train/2.jpeg", "annot/1_by_ann.png", "annot/2_by_bob.png", "pool/3.png")
    description = describe(
        train={"images": "train/{id}.*", "masks": "annot/{id}_by_*.png"}, pool={"images": "pool/{id}.png"}
    )
    samples, faults = find_samples(description, tmp_path)
    assert faults == []
    assert [sample.mask and sample.mask.name for sample in samples] == ["1_by_ann.png", "2_by_bob.png", None]


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    root = touch(tmp_path, "train/x/1.png", "train/y/1.png", "train/y/2.png", "train/y/3.png")
    touch(root, "annot/x/1.png", "annot/y/1.png", "annot/y/4.png", "annot/y/2.png")
    touch(root, "test/1.png", "few/7.png", "few/8.png", "few_annot/7_a.png", "few_annot/7_b.png", "few_annot/9_a.png")
    (root / "few.txt").write_text("7\n8\n5\n7\n")
    (root / "void.txt").write_text("\n")
    description = describe(
        train={"images": "train/{scene}/{id}.png", "masks": "annot/{scene}/{id}.png"},
        val={"images": "val/{id}.png", "masks": "valannot/{id}.png"},
        test={"images": "test/{id}.png", "masks": "testannot/{id}.png"},
        few={"images": "few/{id}.png", "masks": "few_annot/{id}_*.png", "list": "few.txt"},
        none={"images": "few/{id}.png", "list": "none.txt"},
        void={"images": "few/{id}.png", "list": "void.txt"},
    )
    samples, faults = find_samples(description, root)
    assert faults == [
        f"The image {root}/train/y/3.png has no mask {root}/annot/y/3.png. Add the mask or remove the image.",
        f"The mask {root}/annot/y/4.png has no image {root}/train/y/4.png. Add the image or remove the mask.",
        f"Split val: nothing matches val/*.png under {root}. Check --root and splits.val.images.",
        f"Split test has no masks at all: nothing matches testannot/*.png under {root}. "
        "Correct splits.test.masks, or remove it for a pool without masks.",
        f"{root}/few.txt lists '5', but few/5.png does not exist. Add the file or remove the id.",
        f"{root}/few.txt lists '7' 2 times. List it once.",
        f"The image {root}/few/7.png has 2 masks ({root}/few_annot/7_a.png, {root}/few_annot/7_b.png). Keep one.",
        f"The image {root}/few/8.png has no mask {root}/few_annot/8_*.png. Add the mask or remove the image.",
        f"The list {root}/none.txt cannot be read ([Errno 2] No such file or directory: '{root}/none.txt'). "
        "Check --root and the key list.",
        f"The list {root}/void.txt is empty. Write one id per line.",
    ]
    assert [sample.id for sample in samples] == ["train/x/1", "train/y/1", "2", "3", "test/1", "7", "8"]


def test_a_missing_root_is_the_only_fault(tmp_path: Path) -> None:
    samples, faults = find_samples(load_description("camvid"), tmp_path / "nowhere")
    assert samples == []
    assert faults == [f"--root {tmp_path}/nowhere is not a folder. Pass the folder with the files of camvid."]


@pytest.mark.shared
def test_camvid_has_its_367_101_and_233_images() -> None:
    samples, faults = find_samples(load_description("camvid"), SHARED / "camvid")
    assert faults == []
    assert [sum(sample.split == split for sample in samples) for split in ("train", "val", "test")] == [367, 101, 233]
    assert all(sample.mask is not None for sample in samples)


def test_the_augmented_set_has_the_ids_of_three_lists_without_those_of_val_and_prefers_masks_of_voc(
    tmp_path: Path,
) -> None:
    for id in "abcdefg":
        touch(tmp_path, f"JPEGImages/{id}.jpg")
    touch(tmp_path, *(f"SegmentationClass/{id}.png" for id in "abg"), *(f"SBD/cls/{id}.mat" for id in "bcdg"))
    lists = {
        "ImageSets/Segmentation/train": "ab", "ImageSets/Segmentation/val": "g", "SBD/train": "bc", "SBD/val": "dg"
    }  # fmt: skip
    for name, ids in lists.items():
        path = tmp_path / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(ids))
    samples, faults = find_samples(load_description("voc2012-aug"), tmp_path)
    assert faults == []
    found = [
        (sample.split, sample.id, sample.mask and sample.mask.relative_to(tmp_path).as_posix()) for sample in samples
    ]
    assert found == [
        ("train", "a", "SegmentationClass/a.png"), ("train", "b", "SegmentationClass/b.png"),
        ("train", "c", "SBD/cls/c.mat"), ("train", "d", "SBD/cls/d.mat"), ("val", "g", "SegmentationClass/g.png"),
    ]  # fmt: skip
    (tmp_path / "SBD/cls/d.mat").unlink()
    (tmp_path / "SBD/train.txt").write_text("b\nc\nmissing\n")
    assert find_samples(load_description("voc2012-aug"), tmp_path)[1] == [
        f"{tmp_path}/SBD/train.txt lists 'missing', but JPEGImages/missing.jpg does not exist. Add the file or remove "
        "the id.",
        f"The image {tmp_path}/JPEGImages/d.jpg has no mask {tmp_path}/SegmentationClass/d.png or "
        f"{tmp_path}/SBD/cls/d.mat. Add the mask or remove the image.",
    ]


def found_ids(description: DatasetDescription, root: Path) -> list[tuple[str, str]]:
    samples, faults = find_samples(description, root)
    assert faults == []
    return [(sample.split, sample.id) for sample in samples]


def test_only_ids_that_occur_twice_are_qualified(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.png", "train/2.png", "test/1.png", "test/3.png")
    description = describe(train={"images": "train/{id}.png"}, test={"images": "test/{id}.png"})
    assert found_ids(description, tmp_path) == [
        ("train", "train/1"), ("train", "2"), ("test", "test/1"), ("test", "3"),
    ]  # fmt: skip


def test_one_file_in_two_splits_and_two_files_of_one_name_are_faults(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png", "b.tif")
    (tmp_path / "one.txt").write_text("a\n")
    (tmp_path / "two.txt").write_text("a.png\n")
    twice = describe(train={"images": "{id}.png", "list": "one.txt"}, test={"images": "{id}.png", "list": "two.txt"})
    assert find_samples(twice, tmp_path)[1] == [
        f"The image {tmp_path}/a.png is in split train and in split test. Keep it in one of them."
    ]
    assert find_samples(describe(train={"images": "{id}.*"}), touch(tmp_path / "x", "b.png", "b.tif"))[1] == [
        f"{tmp_path}/x/b.png and {tmp_path}/x/b.tif are both image 'b'. Rename one of them, or name both in a table "
        "of files."
    ]


@pytest.mark.parametrize(
    ("images", "masks", "names"),
    [
        ("{id}.png", "{id}_mask.png", ["a.png", "a_mask.png", "b.png", "b_mask.png"]),
        ("{id}_rgb.png", "{id}.png", ["a_rgb.png", "a.png", "b_rgb.png", "b.png"]),
        ("{id}.*", "{id}.png", ["a.jpg", "a.png", "b.jpeg", "b.png"]),
        ("{id}.jpg", "{id}.png", ["a.JPG", "a.png", "b.jpg", "b.PNG"]),
    ],
)
def test_masks_beside_their_images_are_no_images(images: str, masks: str, names: list[str], tmp_path: Path) -> None:
    touch(tmp_path, *names)
    description = describe(train={"images": images, "masks": masks})
    samples, faults = find_samples(description, tmp_path)
    assert faults == []
    assert [(each.image.name, each.mask and each.mask.name) for each in samples] == [
        (names[0], names[1]), (names[2], names[3]),
    ]  # fmt: skip


def test_a_list_may_name_files_with_endings_and_folders(tmp_path: Path) -> None:
    touch(tmp_path, *(f"images/{name}_sat.JPG" for name in "abcde"))
    (tmp_path / "train.txt").write_text("a\nb_sat.JPG\nimages/c_sat.JPG\nimages\\d_sat\ne_sat.jpg\n")
    description = describe(train={"images": "images/{id}_sat.jpg", "list": "train.txt"})
    assert found_ids(description, tmp_path) == [("train", name) for name in "abcde"]
    (tmp_path / "train.txt").write_text("a.png\nz.jpg\n")
    assert find_samples(description, tmp_path)[1] == [
        f"{tmp_path}/train.txt lists 'z', but images/z_sat.jpg does not exist. Add the file or remove the id."
    ]
