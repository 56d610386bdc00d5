"""Images that stay in their files, or are in several: the same pixels as in one, and a sentence where one changed."""

import os

import numpy as np
import pytest
from forged import forge
from PIL import Image
from worlds import TINY

from stages.artifacts.dataset import Dataset
from stages.artifacts.images import ImageFile
from stages.artifacts.model import Model
from stages.artifacts.verify import verify_one
from stages.commands import annotate_simulate, prepare, score, select, train
from stages.datasets import several_files
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


@pytest.fixture
def several(monkeypatch):
    """Values for a file of images per shard, which holds one image."""
    monkeypatch.setattr(prepare, "SHARD_IMAGES", 1)
    return {"file_gb": 1e-9}


SIZES = {
    "as they are": {},
    "smaller": {"long_side": 24},
    "and at another size to evaluate at": {"scale": 0.5, "filter": "bicubic-aliased", "evaluation_scale": 0.75},
}


@pytest.mark.parametrize("elsewhere", ["in place", "in several files"])
@pytest.mark.parametrize("values", SIZES.values(), ids=SIZES)
def test_images_elsewhere_are_those_that_would_be_stored(place, values, elsewhere, several):
    stored = Dataset(prepared(place, "stored.h5", **values))
    own = {"in_place": True} if elsewhere == "in place" else several
    found = Dataset(prepared(place, "found.h5", **own, **values))
    assert "images" not in found
    assert "evaluation_images" not in found
    assert found.path.stat().st_size < stored.path.stat().st_size
    assert found.attributes["mean"] == stored.attributes["mean"]
    for image in stored.all_ids:
        assert np.array_equal(found.image(image), stored.image(image))
        assert np.array_equal(found.image(image, (9, 7)), stored.image(image, (9, 7)))
        assert np.array_equal(found.mask(image), stored.mask(image))
    assert found.evaluation_sizes == stored.evaluation_sizes
    for image in stored.evaluation_sizes:
        assert np.array_equal(found.evaluation_image(image), stored.evaluation_image(image))
    assert verify_one(found.path)[0] == []


def test_bands_and_levels_are_read_again(place):
    (place / "bands.toml").write_text(DESCRIPTION + "[images]\nbands = [3, 1]\nlevels = [10, 200]\n" + SPLITS)
    stored = Dataset(prepared(place, "stored.h5", "bands.toml"))
    found = Dataset(prepared(place, "found.h5", "bands.toml", in_place=True))
    assert np.array_equal(found.image("t1"), stored.image("t1"))
    assert found.image("t1").shape == (32, 40, 2)


def test_a_network_learns_the_same(place, several):
    trained = []
    for name, values in (("stored", {}), ("in-place", {"in_place": True}), ("several", several)):
        dataset = prepared(place, f"{name}.h5", **values)
        scores = score.run(dataset, place / f"{name}-s.h5", ScoreSettings(measure="random"))
        queries = select.run(dataset, scores, place / f"{name}-q.h5", SelectSettings(rule="uniform", budget=20))
        ledger = annotate_simulate.run(dataset, queries, place / f"{name}-a.h5", AnnotateSettings())
        settings = TrainSettings.load({}, offered=TINY | {"epochs": 1})
        trained.append(Model(train.run(dataset, ledger, place / f"{name}.safetensors", settings)).weights("last"))
    for other in trained[1:]:
        assert trained[0].keys() == other.keys()
        assert all((trained[0][name] == other[name]).all() for name in other)


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


def files_of(path):
    return sorted(path.with_name(f"{path.name}.images").glob("*"))


def test_a_dataset_names_its_files(place, several, capsys):
    path = prepared(place, **several)
    assert "3 train, 1 val images, in 4 files below" in capsys.readouterr().out
    data, files = Dataset(path), files_of(path)
    assert data.strings("image_files/file") == [f"d.h5.images/{file.name}" for file in files]
    assert data.strings("image_files/digest") == [ImageFile(file).digest for file in files]
    assert [ImageFile(file).all_ids for file in files] == [["t0"], ["t1"], ["t2"], ["v0"]]
    with data:
        data.image("t1")
    whole = files[1].read_bytes()
    files[1].unlink()
    with pytest.raises(BadInput, match=r"which has images of .*d\.h5, is missing\. Copy the folder d\.h5\.images to"):
        Dataset(path).image("t1")
    assert Dataset(path).image("t0").shape == (32, 40, 3)
    files[1].write_bytes(files[0].read_bytes())
    with pytest.raises(BadInput, match=r"is not the file that .*d\.h5 was prepared with\. Restore it"):
        Dataset(path).image("t1")
    files[1].write_bytes(whole[:-100] + bytes(100))
    faults = verify_faults(path)
    assert len(faults) == 1
    assert files[1].name in faults[0]
    prepared(place, **several)
    assert verify_faults(path) == []
    assert [file.name for file in files_of(path)] == [file.name for file in files]


def verify_faults(path):
    try:
        return verify_one(path)[0]
    except BadInput as error:
        return error.faults


def test_files_hold_as_much_as_they_may(place, monkeypatch):
    monkeypatch.setattr(prepare, "SHARD_IMAGES", 1)
    data = Dataset(prepared(place, file_gb=2.5 * 32 * 40 * 3 / 1e9))
    assert [each.all_ids for each in data.attached()] == [["t0", "t1"], ["t2", "v0"]]


def test_the_files_of_an_earlier_dataset_go_when_a_new_one_is_there(place, several, monkeypatch):
    path = prepared(place, **several)
    before = files_of(path)
    publish, calls = several_files.publish_image_file, []

    def ends_in_the_second(request, file, shards):
        calls.append(file)
        if len(calls) == 2:
            raise KeyboardInterrupt
        publish(request, file, shards)

    monkeypatch.setattr(several_files, "publish_image_file", ends_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        prepared(place, long_side=24, **several)
    assert Dataset(path).image("v0").shape == (32, 40, 3)
    assert verify_one(path)[0] == []
    first = calls[0].stat().st_mtime_ns
    prepared(place, long_side=24, **several)
    assert calls[0].stat().st_mtime_ns == first
    assert calls.count(calls[0]) == 1
    after = files_of(path)
    assert len(after) == 4
    assert not {*before} & {*after}
    assert Dataset(path).image("v0").shape == (19, 24, 3)
    (after[0].parent / "notes.txt").write_text("mine")
    prepared(place)
    assert [file.name for file in files_of(path)] == ["notes.txt"]
    assert verify_one(path)[0] == []


def test_a_name_that_leads_elsewhere_is_refused(place, several):
    def change(attributes, arrays):
        arrays["image_files/file"][1] = b"elsewhere/0123456789ab-000.h5"

    path = forge(prepared(place, **several), place / "forged.h5", change)
    with pytest.raises(BadInput, match=r"image_files/file names 'elsewhere/0123456789ab-000\.h5', which is no"):
        Dataset(path).image("t1")
