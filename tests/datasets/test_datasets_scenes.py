import time

import numpy as np
import pytest

from stages.datasets.description import load_description
from stages.datasets.scenes import CLASS_NAMES, generate_scene, scene_id
from stages.pixels.void import VOID

SIZE = 96, 128


@pytest.fixture(scope="module")
def masks() -> np.ndarray:
    """The masks of 120 scenes, (N, H, W) u8."""
    return np.stack([generate_scene(0, "train", index, *SIZE)[1] for index in range(120)])


def test_the_description_names_the_generated_classes() -> None:
    description = load_description("scenes")
    assert tuple(description.class_names) == CLASS_NAMES
    assert description.generator is not None
    assert (description.generator.height, description.generator.width) == SIZE
    assert description.generator.images == {"train": 64, "val": 16, "test": 48}


def test_a_scene_depends_on_its_arguments_alone() -> None:
    ahead = [generate_scene(3, "val", index, *SIZE) for index in range(4)]
    for index in reversed(range(4)):
        image, mask = generate_scene(3, "val", index, *SIZE)
        assert (image == ahead[index][0]).all()
        assert (mask == ahead[index][1]).all()
    others = [generate_scene(*key, *SIZE)[0] for key in ((4, "val", 0), (3, "test", 0), (3, "val", 9))]
    assert all((image != ahead[0][0]).mean() > 0.5 for image in others)


def test_shapes_types_and_values(masks: np.ndarray) -> None:
    for size in (SIZE, (48, 64), (120, 101)):
        image, mask = generate_scene(0, "train", 5, *size)
        assert (image.shape, image.dtype) == ((*size, 3), np.uint8)
        assert (mask.shape, mask.dtype) == (size, np.uint8)
    assert set(np.unique(masks).tolist()) == {*range(len(CLASS_NAMES)), VOID}


def test_classes_are_imbalanced_as_in_a_real_street(masks: np.ndarray) -> None:
    share = dict(zip(CLASS_NAMES, 100 * np.bincount(masks.ravel(), minlength=256) / masks.size, strict=False))
    assert share["road"] + share["building"] + share["sky"] > 60
    assert 2.5 < share["car"] < 5.5
    assert 0.6 < share["pole"] < 1.6
    assert 0.05 < share["person"] < 0.3
    assert 0.2 < np.mean([(mask == CLASS_NAMES.index("person")).any() for mask in masks]) < 0.5


def test_void_lies_on_borders_only(masks: np.ndarray) -> None:
    void = masks == VOID
    assert 0.04 < void.mean() < 0.07
    assert (void.mean(axis=(1, 2)) < 0.12).all()
    # A border is at most two pixels thick: no void pixel has void in its whole 5x5 neighbourhood.
    inner = np.lib.stride_tricks.sliding_window_view(void, (5, 5), axis=(1, 2)).all(axis=(-2, -1))
    assert inner.mean() < 1e-4


def test_colour_alone_does_not_tell_classes_apart(masks: np.ndarray) -> None:
    """The class most frequent at a colour (16 levels a channel, learnt on the other scenes) is often wrong."""
    images = np.stack([generate_scene(0, "train", index, *SIZE)[0] for index in range(120)]).astype(int) // 16
    colours = images @ [256, 16, 1]
    seen = masks != VOID
    seen[60:] = False
    table = np.bincount(colours[seen] * 256 + masks[seen], minlength=4096 * 256).reshape(4096, 256).argmax(axis=1)
    asked = masks != VOID
    asked[:60] = False
    assert 0.4 < (table[colours[asked]] == masks[asked]).mean() < 0.75


def test_scenes_are_fast_enough_to_be_made_on_the_fly() -> None:
    start = time.perf_counter()
    for index in range(30):
        generate_scene(1, "train", index, *SIZE)
    assert time.perf_counter() - start < 3  # a tenth of the aim, so that a busy machine does not fail it


def test_ids() -> None:
    assert scene_id("train", 7) == "train_00007"
