"""`plan` says what a dataset lacks before it writes a line."""

import h5py
import pytest
from worlds import random_masks, write_dataset

from stages.recipes.experiment import Wanted, write_plan
from stages.runtime.errors import BadInput

NAMES = [f"i{number}" for number in range(6)]
SPLITS = dict(zip(NAMES, ["train"] * 4 + ["val", "test"], strict=True))


def plan(dataset, recipe="pixelpick", profile=None, overrides=()):
    write_plan(Wanted([recipe], dataset, profiles=[profile], overrides=overrides), dataset.with_suffix(".mk"))
    return dataset.with_suffix(".mk")


def without_masks(path, ids):
    """The dataset less the masks of some images."""
    with h5py.File(path, "r+") as file:
        for image in ids:
            del file[f"masks/{image}"]
    return path


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "d.h5", random_masks(NAMES, (32, 40), 3), 3, SPLITS)


def test_a_dataset_that_has_everything_is_planned(dataset):
    assert "round-9" in plan(dataset).read_text()


@pytest.mark.parametrize(
    "overrides, says",
    [
        (
            ["evaluate.split=tset"],
            r"no split 'tset' \(evaluate.split\); its splits are test, train, val\. Set evaluate\.split\.$",
        ),
        (
            ["score.split=pool"],
            r"no split 'pool' \(score.split\); its splits are test, train, val\. Set score\.split\.$",
        ),
        (
            ["train.crop=768,768"],
            r"^A crop of 768x768 exceeds the images of .* \(up to 32x40, scaled by up to 2\)\. Use another profile, "
            r"or set train\.crop \(none: the largest image\)\.$",
        ),
    ],
)
def test_what_is_missing_is_told_with_the_remedy(dataset, overrides, says):
    with pytest.raises(BadInput, match=says):
        plan(dataset, overrides=overrides)
    assert not dataset.with_suffix(".mk").exists()


def test_a_profile_of_larger_images_does_not_fit(dataset):
    told = (
        r"^A crop of .* exceeds the images of .*\. Use another profile, or set train\.crop \(none: the largest "
        r"image\)\.$"
    )
    with pytest.raises(BadInput, match=told):
        plan(dataset, profile="camvid")


def test_all_faults_come_at_once(dataset):
    with pytest.raises(BadInput) as error:
        plan(dataset, overrides=["evaluate.split=a", "train.crop=999,999"])
    assert len(error.value.faults) == 2


def test_one_class_and_missing_masks_are_found(tmp_path):
    alone = write_dataset(tmp_path / "one.h5", random_masks(NAMES, (32, 40), 1), 1, SPLITS)
    with pytest.raises(BadInput, match=r"has 1 class; a segmentation needs two or more\. Prepare it again\.$"):
        plan(alone)
    bare = without_masks(write_dataset(tmp_path / "d.h5", random_masks(NAMES, (32, 40), 3), 3, SPLITS), NAMES[:4])
    told = r"has no masks in split 'train', so no answers can be simulated\. Use `alseg annotate`\.$"
    with pytest.raises(BadInput, match=told):
        plan(bare)


def test_an_override_that_applies_to_no_step_is_refused(dataset):
    with pytest.raises(BadInput, match=r"--set select\.remainder: applies to no step of recipe pixelpick"):
        plan(dataset, overrides=["select.remainder=largest"])


def test_there_must_be_a_dataset(tmp_path):
    with pytest.raises(BadInput, match=r"none\.h5\. Run the stage that writes it first\.$"):
        plan(tmp_path / "none.h5")
