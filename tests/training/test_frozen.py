"""A frozen backbone: nothing of it learns, its features are computed once, and the model is the same however."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from plugins import loaded
from tasks import learner_of, network_of, samples_of
from worlds import TINY, random_masks, random_round, write_dataset, write_superpixels

from stages.artifacts.evaluation import Evaluation
from stages.artifacts.model import Model
from stages.commands import evaluate, score, train
from stages.networks import features
from stages.networks.features import FeatureFolder, KeptFeatures
from stages.runtime.errors import BadInput
from stages.settings.evaluate import EvaluateSettings
from stages.settings.score import ScoreSettings
from stages.settings.train import TrainSettings
from stages.training.colour import ColourDraw

NAMES = [f"i{number}" for number in range(6)]
FROZEN = TINY | {"freeze": "backbone", "views": 2, "epochs": 3}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frozen")
    draw = np.random.default_rng(0)
    masks = random_masks(NAMES, (40, 52), 3)
    images = {name: draw.integers(0, 256, (40, 52, 3), dtype=np.uint8) for name in NAMES}
    splits = dict(zip(NAMES, ["train"] * 4 + ["val"] * 2, strict=True))
    dataset = write_dataset(folder / "d.h5", masks, 3, splits, images)
    return folder, dataset, random_round(folder, dataset, 0)


@pytest.fixture
def encoded(monkeypatch):
    """The number of images in each pass through a backbone whose features are kept."""
    seen: list[int] = []
    run = KeptFeatures.computed

    def counted(self, images):
        seen.append(len(images))
        return run(self, images)

    monkeypatch.setattr(KeptFeatures, "computed", counted)
    return seen


def trained(world, output: Path, **values: object) -> Model:
    _, dataset, ledger = world
    return Model(train.run(dataset, ledger, output, TrainSettings.load({}, offered=FROZEN | values)))


def test_nothing_of_the_backbone_learns(world):
    _, dataset, ledger = world
    settings = TrainSettings.load({}, offered=FROZEN | {"views": 0, "weight_decay": 0.5, "optimiser": "adamw"})
    network = network_of(settings, 3)
    learner = learner_of(dataset, ledger, settings, network)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    (optimiser,) = learner.optimisers().values()
    learner.train()
    for batch in learner.batches(0):
        for _, losses in learner.updates(batch):
            losses["loss"].backward()
            optimiser.step()
    after = network.state_dict()
    frozen = {name for name in before if name.startswith("backbone.")}
    assert all(torch.equal(before[name], after[name]) for name in frozen), "weights and statistics"
    assert all(parameter.grad is None for parameter in network.get_submodule("backbone").parameters())
    assert any(not torch.equal(before[name], after[name]) for name in before.keys() - frozen)
    learned = {id(each) for group in optimiser.param_groups for each in group["params"]}
    assert learned == {id(each) for name, each in network.named_parameters() if not name.startswith("backbone.")}
    assert {id(each) for each in optimiser.state} <= learned


def test_features_are_computed_once_per_view_whatever_keeps_them(world, tmp_path, encoded):
    folder = str(tmp_path / "features")
    alone = trained(world, tmp_path / "a.safetensors")
    first = sum(encoded)
    assert first == 4 * 2 + 2, "two views of each labelled image, and the images of validation"
    kept = trained(world, tmp_path / "b.safetensors", features=folder)
    assert sum(encoded) == 2 * first
    again = trained(world, tmp_path / "c.safetensors", features=folder)
    assert sum(encoded) == 2 * first
    assert alone.digest == kept.digest == again.digest
    (own,) = Path(folder).iterdir()
    assert len(list(own.iterdir())) == first


def test_a_later_round_computes_only_what_is_new(world, tmp_path, encoded):
    _, dataset, ledger = world
    settings = TrainSettings.load({}, offered=FROZEN | {"features": str(tmp_path / "features"), "crop": (32, 32)})
    train.run(dataset, ledger, tmp_path / "m0.safetensors", settings)
    encoded.clear()
    (tmp_path / "more").mkdir()
    more = random_round(tmp_path / "more", dataset, 1, ledger)
    train.run(dataset, more, tmp_path / "m1.safetensors", settings)
    assert encoded == []


@pytest.mark.parametrize(
    "values", [{"seed": 1}, {"normalisation": "dataset"}, {"crop": (32, 40)}, {"scale_range": (1.0, 1.0)}]
)
def test_features_of_other_weights_sizes_and_inputs_are_not_mixed(world, tmp_path, encoded, values):
    folder = tmp_path / "features"
    trained(world, tmp_path / "a.safetensors", features=str(folder))
    alone = trained(world, tmp_path / "b.safetensors", **values)
    mixed = trained(world, tmp_path / "c.safetensors", features=str(folder), **values)
    assert mixed.digest == alone.digest
    assert len(list(folder.iterdir())) == 2


def test_views_take_turns_and_the_first_is_the_image_as_it_is(world):
    _, dataset, ledger = world
    settings = TrainSettings.load({}, offered=TINY)
    samples, other = (samples_of(dataset, ledger, settings, views=3) for _ in range(2))
    other.seed = 5
    turns = [next(turn for turn in range(3) if samples.view(image, turn) == 0) for image in samples.ids]
    for index, turn in enumerate(turns):
        crop, _, colours, _ = samples[index, turn]
        assert np.array_equal(crop, samples.pixels(samples.ids[index]))
        assert colours == ColourDraw((), False, 0.0)
        shown = [samples[index, epoch][0].tobytes() for epoch in range(6)]
        assert shown[:3] == shown[3:]
        assert len(set(shown)) == 3
        assert shown == [other[index, epoch][0].tobytes() for epoch in range(6)], "whatever the seed"


def test_damaged_files_are_computed_again(world, tmp_path, encoded, capsys):
    folder = tmp_path / "features"
    whole = trained(world, tmp_path / "a.safetensors", features=str(folder))
    (own,) = folder.iterdir()
    flipped, torn, swapped, other, *_ = sorted(own.iterdir())
    content = bytearray(flipped.read_bytes())
    content[-1] ^= 1
    flipped.write_bytes(content)
    torn.write_bytes(torn.read_bytes()[:-10])
    swapped.write_bytes(other.read_bytes())
    encoded.clear()
    assert trained(world, tmp_path / "b.safetensors", features=str(folder)).digest == whole.digest
    assert sum(encoded) == 3
    assert "computing features again: those in" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["photo.jpg", "notes/a.txt", "0123456789abcdef0123456789abcdef/photo.jpg"])
def test_a_folder_with_other_content_is_refused(world, tmp_path, name):
    (tmp_path / "mine" / name).parent.mkdir(parents=True)
    (tmp_path / "mine" / name).write_text("mine")
    with pytest.raises(BadInput, match=r"is in the folder of features, but is none\. Pass an empty or new --features"):
        trained(world, tmp_path / "a.safetensors", features=str(tmp_path / "mine"))
    assert (tmp_path / "mine" / name).read_text() == "mine"


def test_a_file_is_no_folder_for_features(world, tmp_path):
    with pytest.raises(BadInput, match=r"d\.h5 is a file\. Pass a folder for features\."):
        trained(world, tmp_path / "a.safetensors", features=str(world[1]))


def test_a_full_folder_keeps_less_and_changes_nothing(world, tmp_path, capsys):
    whole = trained(world, tmp_path / "a.safetensors")
    folder = tmp_path / "features"
    limited = trained(world, tmp_path / "b.safetensors", features=str(folder), features_gb=5e-5)
    assert limited.digest == whole.digest
    size = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    assert 0 < size <= 50_000
    assert capsys.readouterr().out.count("not keeping all features") == 1


def test_without_room_in_memory_features_are_computed_again(world, tmp_path, encoded, monkeypatch):
    whole = trained(world, tmp_path / "a.safetensors")
    first = sum(encoded)
    monkeypatch.setattr("stages.training.features.free_memory", lambda: 0)
    assert trained(world, tmp_path / "b.safetensors").digest == whole.digest
    assert sum(encoded) > 2 * first
    encoded.clear()
    assert trained(world, tmp_path / "c.safetensors", features=str(tmp_path / "kept")).digest == whole.digest
    assert sum(encoded) == first


def test_what_was_unused_for_longest_is_removed_first(tmp_path):
    content, needed = [torch.zeros(1000, dtype=torch.float16)], 2000
    for number, key in enumerate("abc"):
        FeatureFolder(tmp_path, key * 32, 1e9).write("i", content)
        os.utime(tmp_path / (key * 32), (number, number))
    used = FeatureFolder(tmp_path, "a" * 32, 1e9)
    assert used.read("i") is not None
    small = FeatureFolder(tmp_path, "d" * 32, features.folder_size(tmp_path) + needed - 1)
    small.write("i", content)
    assert sorted(path.name[0] for path in tmp_path.iterdir()) == ["a", "c", "d"]


@pytest.mark.parametrize("architecture", ["light", "linear"])
def test_a_frozen_transformer_trains_scores_and_is_evaluated(world, tmp_path, architecture):
    _, dataset, _ = world
    values = {"architecture": architecture, "backbone": "test_vit", "features": str(tmp_path / "features")}
    model = trained(world, tmp_path / "m.safetensors", **values)
    assert model.attributes["network"]["backbone"] == "test_vit"
    scores = score.run(dataset, tmp_path / "s.h5", ScoreSettings(), model.path)
    regions = write_superpixels(tmp_path, dataset)
    score.run(dataset, tmp_path / "r.h5", ScoreSettings(unit="region"), model.path, regions)
    assert scores.exists()
    settings = EvaluateSettings(split="val", checkpoint="last", scales=(0.75, 1.0))
    assert Evaluation(evaluate.run(dataset, [model.path], tmp_path / "e.h5", settings)).read("iou").shape == (1, 3)


def test_validation_from_features_is_that_of_the_model(world, tmp_path):
    """Features are rounded to 16 bits, which moves few pixels."""
    model = trained(world, tmp_path / "m.safetensors", epochs=1, head_lr=0.05)
    settings = EvaluateSettings(split="val", checkpoint="last")
    found = Evaluation(evaluate.run(world[1], [model.path], tmp_path / "e.h5", settings)).read("miou")[0]
    assert found == pytest.approx(model.header.counts["last_val_miou"], abs=0.02)


def test_a_network_that_is_not_cut_is_refused(world, tmp_path):
    text = Path(__file__).parents[1].joinpath("exercise", "parts", "plain.py").read_text()
    with loaded(tmp_path / "mine.py", text) as _:
        with pytest.raises(BadInput, match=r"does not separate its backbone.* Set --views 0"):
            trained(world, tmp_path / "a.safetensors", architecture="plain")
        trained(world, tmp_path / "b.safetensors", architecture="plain", views=0)


@pytest.mark.parametrize(
    "values, words",
    [
        ({"objective": "adversarial"}, "needs a new augmentation in each epoch.*set views 0"),
        ({"objective": "support"}, "trains beside a frozen network anyway; leave out freeze"),
    ],
)
def test_objectives_that_cannot_are_refused(values, words):
    with pytest.raises(BadInput, match=words):
        TrainSettings.load({"freeze": "backbone"} | values)


def test_the_setting_of_a_frozen_backbone_needs_one():
    with pytest.raises(BadInput, match=r"views .*it is for freeze backbone"):
        TrainSettings.load({"views": 2})
