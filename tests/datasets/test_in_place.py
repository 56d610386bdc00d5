"""Images that stay in their files: the same pixels as stored ones, and a sentence where a file has changed."""

import os

import numpy as np
import pytest
from PIL import Image
from worlds import TINY

from stages.artifacts.dataset import Dataset
from stages.artifacts.model import Model
from stages.artifacts.verify import content_faults
from stages.commands import annotate_simulate, prepare, score, select, train
from stages.runtime.errors import BadInput
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.prepare import PrepareSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings
from stages.settings.train import TrainSettings

DESCRIPTION = """
name = "own"
classes = [{ name = "a", color = [0, 0, 0] }, { name = "b", color = [9, 9, 9] }]
[masks]
encoding = "index"
"""
SPLITS = """
[splits.train]
images = "train/{id}.jpg"
masks = "train_masks/{id}.png"
[splits.val]
images = "val/{id}.jpg"
masks = "val_masks/{id}.png"
"""
NAMES = {"train": ["t0", "t1", "t2"], "val": ["v0"]}


@pytest.fixture
def place(tmp_path):
    (tmp_path / "own.toml").write_text(DESCRIPTION + SPLITS)
    generator = np.random.default_rng(0)
    for split, names in NAMES.items():
        for folder in (split, f"{split}_masks"):
            (tmp_path / folder).mkdir()
        for name in names:
            Image.fromarray(generator.integers(0, 256, (32, 40, 3), np.uint8)).save(tmp_path / split / f"{name}.jpg")
            mask = Image.fromarray(generator.integers(0, 2, (32, 40)).astype(np.uint8))
            mask.save(tmp_path / f"{split}_masks" / f"{name}.png")
    return tmp_path


def prepared(place, name="d.h5", description="own.toml", **values):
    settings = PrepareSettings.load({"workers": 1} | values)
    return prepare.run(str(place / description), place, place / name, settings)


@pytest.mark.parametrize(
    "values",
    [{}, {"long_side": 24}, {"scale": 0.5, "filter": "bicubic-aliased", "evaluation_scale": 0.75}],
    ids=["as they are", "smaller", "and at another size to evaluate at"],
)
def test_images_in_their_files_are_those_that_would_be_stored(place, values):
    stored = Dataset(prepared(place, "stored.h5", **values))
    found = Dataset(prepared(place, "found.h5", in_place=True, **values))
    assert "images" not in found
    assert found.path.stat().st_size < stored.path.stat().st_size
    assert found.attributes["mean"] == stored.attributes["mean"]
    for image in stored.all_ids:
        assert np.array_equal(found.image(image), stored.image(image))
        assert np.array_equal(found.image(image, (9, 7)), stored.image(image, (9, 7)))
        assert np.array_equal(found.mask(image), stored.mask(image))
    for image in stored.evaluation_sizes:
        assert np.array_equal(found.evaluation_image(image), stored.evaluation_image(image))
    assert content_faults(found) == []


def test_bands_and_levels_are_read_again(place):
    (place / "bands.toml").write_text(DESCRIPTION + "[images]\nbands = [3, 1]\nlevels = [10, 200]\n" + SPLITS)
    stored = Dataset(prepared(place, "stored.h5", "bands.toml"))
    found = Dataset(prepared(place, "found.h5", "bands.toml", in_place=True))
    assert np.array_equal(found.image("t1"), stored.image("t1"))
    assert found.image("t1").shape == (32, 40, 2)


def test_a_network_learns_the_same(place):
    trained = []
    for name, values in (("stored", {}), ("found", {"in_place": True})):
        dataset = prepared(place, f"{name}.h5", **values)
        scores = score.run(dataset, place / f"{name}-s.h5", ScoreSettings(measure="random"))
        queries = select.run(dataset, scores, place / f"{name}-q.h5", SelectSettings(rule="uniform", budget=20))
        ledger = annotate_simulate.run(dataset, queries, place / f"{name}-a.h5", AnnotateSettings())
        settings = TrainSettings.load({}, offered=TINY | {"epochs": 1})
        trained.append(Model(train.run(dataset, ledger, place / f"{name}.safetensors", settings)).weights("last"))
    assert trained[0].keys() == trained[1].keys()
    assert all((trained[0][name] == trained[1][name]).all() for name in trained[0])


def test_a_file_that_changed_or_went_is_told(place):
    path = prepared(place, in_place=True)
    data, file = Dataset(path), place / "train" / "t1.jpg"
    content, times = file.read_bytes(), (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    os.utime(file, ns=(times[0], times[1] + 1))
    with pytest.raises(
        BadInput, match=r"t1\.jpg has changed since .*d\.h5 was prepared from it\. Put it back, or prep"
    ):
        data.image("t1")
    file.write_bytes(content + b"0")
    os.utime(file, ns=times)
    with pytest.raises(BadInput, match=r"t1\.jpg has changed"):
        data.image("t1")
    file.unlink()
    with pytest.raises(BadInput, match=r"t1\.jpg, an image of .*d\.h5, cannot be read \(No such file or directory\)"):
        data.image("t1")
    file.write_bytes(content)
    os.utime(file, ns=times)
    assert data.image("t1").shape == (32, 40, 3)
    with pytest.raises(BadInput, match="is generated, so they cannot stay in their files"):
        prepare.run("scenes", None, place / "s.h5", PrepareSettings(in_place=True))
