"""Masks in every format that holds class values without loss, by hand; all others with their remedy."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.commands import annotate_simulate, prepare, score, select
from stages.datasets.description import DatasetDescription, load_description
from stages.datasets.mask_files import class_lookup, decoded, stored_mask
from stages.runtime.errors import BadInput
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.prepare import PrepareSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings

CLASSES = np.array([[0, 1, 2, 0], [2, 2, 1, 0]], np.uint8)
ZEROS = np.zeros_like(CLASSES)
OPAQUE = np.full_like(CLASSES, 255)
DEEP = CLASSES.astype(np.uint16)


def describe(values: list[list[int]], **masks: object) -> DatasetDescription:
    classes = [{"name": str(each), "color": [each[0] % 256, 0, 0], "values": each} for each in values]
    splits = {"train": {"images": "{id}.png"}}
    return DatasetDescription.model_validate({"name": "own", "classes": classes, "masks": masks, "splits": splits})


def save(path: Path, array: np.ndarray, mode: str | None = None, **options: object) -> Path:
    if path.suffix == ".npy":
        np.save(path, array)
    elif array.dtype == np.uint16 and array.ndim == 3:
        import cv2

        cv2.imwrite(str(path), array[..., ::-1])
    else:
        Image.fromarray(array, mode).save(path, **options)
    return path


@pytest.mark.parametrize(
    ("name", "array", "note"),
    [
        ("grey.png", CLASSES, ""),
        ("deep.png", DEEP, ""),
        ("deep.tif", DEEP, ""),
        ("doubled.png", DEEP * 257, "its 16-bit values are bytes written twice"),
        ("grey and alpha.png", np.dstack([CLASSES, OPAQUE]), ""),
        ("transparent.png", np.dstack([CLASSES, CLASSES * 100]), "its alpha channel is left out"),
        ("equal.png", np.dstack([CLASSES] * 3), ""),
        ("equal, alpha.png", np.dstack([CLASSES] * 3 + [OPAQUE]), ""),
        ("equal, deep.png", np.dstack([DEEP] * 3), ""),
        ("red.png", np.dstack([CLASSES, ZEROS, ZEROS]), "the classes are in one of its colour channels"),
        ("blue.png", np.dstack([ZEROS, ZEROS, CLASSES, OPAQUE]), "the classes are in one of its colour channels"),
        ("two.png", np.dstack([CLASSES, CLASSES, ZEROS]), "the classes are in one of its colour channels"),
        ("numbers.tif", CLASSES.astype(np.float32), "its classes are floating-point numbers"),
        ("long.tif", CLASSES.astype(np.int32), ""),
        ("array.npy", CLASSES.astype(np.int64), ""),
    ],
)
def test_class_values_are_read_from(name: str, array: np.ndarray, note: str, tmp_path: Path) -> None:
    path = save(tmp_path / name, array)
    mask, told = decoded(stored_mask(path, "index"), class_lookup(describe([[0], [1], [2]])), name)
    assert mask.dtype == np.uint8
    assert mask.tolist() == CLASSES.tolist()
    assert told.startswith(note)
    assert bool(told) == bool(note)


def test_values_that_are_multiples_of_257_keep_their_meaning_if_they_have_one(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[0, 257, 514]], np.uint16))
    mask, note = decoded(stored_mask(path, "index"), class_lookup(describe([[0], [257]], ignore=[514])), "m")
    assert (mask.tolist(), note) == ([[0, 1, 255]], "")
    void = save(tmp_path / "v.png", np.array([[0, 257, 65535]], np.uint16))
    mask, _ = decoded(stored_mask(void, "index"), class_lookup(describe([[0], [1]], ignore=[255])), "v")
    assert mask.tolist() == [[0, 1, 255]]


def test_two_values_with_smoothed_edges_and_jpegs_are_read_with_binarise(tmp_path: Path) -> None:
    exact = np.zeros((32, 32), np.uint8)
    exact[8:24, 8:24] = 255
    smooth = np.asarray(Image.fromarray(exact).resize((24, 24), Image.Resampling.BICUBIC))
    plain = describe([[0], [255]])
    with pytest.raises(BadInput, match=r"smoothed edges and lossy compression make them\. Set binarise = 128 under"):
        decoded(stored_mask(save(tmp_path / "s.png", smooth), "index"), class_lookup(plain), "s.png")
    lookup = class_lookup(describe([[0], [255]], binarise=128))
    mask, _ = decoded(stored_mask(tmp_path / "s.png", "index"), lookup, "s.png")
    assert mask.tolist() == (smooth >= 128).astype(int).tolist()
    lossy = stored_mask(save(tmp_path / "l.jpg", exact, quality=60), "index", lossy=True)
    assert decoded(lossy, lookup, "l.jpg")[0].tolist() == (exact // 255).tolist()


def test_255_at_the_borders_of_objects_gets_the_advice_to_ignore_it(tmp_path: Path) -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[8:32, 8:32] = 255
    mask[12:28, 12:28] = 1
    lookup = class_lookup(describe([[0], [1]]))
    with pytest.raises(BadInput, match=r"320 pixels of value 255, only at the borders.* Set ignore = \[255\] under"):
        decoded(stored_mask(save(tmp_path / "m.png", mask), "index"), lookup, "m.png")
    mask[mask == 1] = 255  # an object
    with pytest.raises(BadInput, match=r"576 pixels of value 255, which is not in the class table\. Add it to a class"):
        decoded(stored_mask(save(tmp_path / "m.png", mask), "index"), lookup, "m.png")


@pytest.mark.parametrize(
    ("name", "array", "sentence"),
    [
        ("a.png", np.dstack([CLASSES, CLASSES + 1, ZEROS]), "contains colours, not class values. Set masks.encoding"),
        ("a.png", np.dstack([CLASSES + 7, ZEROS, ZEROS]), "contains colours, not class values. Set masks.encoding"),
        ("a.tif", np.full((2, 2), np.nan, np.float32), "contains fractions"),
        ("a.npy", CLASSES.astype(np.int16) - 1, "contains values below 0"),
        ("a.npy", np.array([{}]), "cannot be read as a NumPy array"),
        ("a.npy", np.zeros(3), "is an array of shape (3,)"),
    ],
)
def test_what_holds_no_classes_is_refused_with_a_remedy(name: str, array: np.ndarray, sentence: str, tmp_path: Path):
    path = save(tmp_path / name, array)
    with pytest.raises(BadInput) as caught:
        decoded(stored_mask(path, "index"), class_lookup(describe([[0], [1], [2]])), str(path))
    assert sentence in str(caught.value)


def test_notes_are_told_once_and_empty_masks_are_no_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "abc":
        Image.fromarray(np.full((8, 8, 3), 50, np.uint8)).save(tmp_path / f"{name}.jpg")
        mask = np.full((8, 8), 65535 if name == "c" else 257, np.uint16)
        Image.fromarray(mask).save(tmp_path / f"{name}_m.png")
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(tmp_path / "c_m.png")
    (tmp_path / "d.toml").write_text(
        'name = "own"\nclasses = [{ name = "a", color = [0, 0, 0] }, { name = "b", color = [9, 9, 9] }]\n'
        'masks.ignore = [255]\n[splits.train]\nimages = "{id}.jpg"\nmasks = "{id}_m.png"\n'
    )
    assert load_description(str(tmp_path / "d.toml")).masks.ignore == (255,)
    prepare.run(str(tmp_path / "d.toml"), tmp_path, tmp_path / "d.h5", PrepareSettings())
    told = capsys.readouterr().out
    assert told.count("bytes written twice") == 1
    assert "c_m.png: it has no pixel with a class, so it labels nothing" in told
    with Dataset(tmp_path / "d.h5") as data:
        assert np.unique(data.mask("a")).tolist() == [1]
        assert np.unique(data.mask("c")).tolist() == [255]
    score.run(tmp_path / "d.h5", tmp_path / "s.h5", ScoreSettings.load({"measure": "random", "unit": "image"}))
    wanted = SelectSettings.load({"budget": 3, "image_answer": "mask"})
    select.run(tmp_path / "d.h5", tmp_path / "s.h5", tmp_path / "q.h5", wanted)
    annotate_simulate.run(tmp_path / "d.h5", tmp_path / "q.h5", tmp_path / "a.h5", AnnotateSettings.load({}))
    with Annotations(tmp_path / "a.h5") as ledger:
        assert ledger.mask_ids == {"a", "b", "c"}
        assert ledger.labelled_ids() == ["a", "b"]
        assert ledger.labelled_ids(void=2) == ["a", "b", "c"]  # void is learned as a class of its own
