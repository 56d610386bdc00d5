"""Prediction over whole images: batches, padding, flips and scales; evaluation of several models."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from worlds import TINY, random_masks, random_round, write_dataset

from stages.artifacts.dataset import Dataset
from stages.artifacts.evaluation import Evaluation
from stages.commands import evaluate, train
from stages.networks.predictor import Predictor, equal_size_groups, image_batches
from stages.runtime.errors import BadInput
from stages.settings.evaluate import EvaluateSettings
from stages.settings.train import TrainSettings


def predictor(network):
    return Predictor(network.eval(), (0.0,) * 3, (1.0,) * 3, torch.device("cpu"))


class LeftIsOne(nn.Module):
    """Says class 1 on the left half of whatever it sees, so that a mirrored view disagrees."""

    pad_multiple = 1

    def forward(self, images):
        logits = torch.zeros(len(images), 2, *images.shape[-2:])
        logits[:, 1, :, : images.shape[-1] // 2] = 10.0
        return logits


def test_flip_averages_with_the_mirrored_image_turned_back():
    images = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    plain = predictor(LeftIsOne()).probabilities(images)
    both = predictor(LeftIsOne()).probabilities(images, flip=True)
    assert plain[0, 1, 0, 0] > 0.99
    assert torch.allclose(both[0, 1, :, :4], (plain[0, 1, :, :4] + plain[0, 1, :, 4:].flip(-1)) / 2, atol=1e-6)
    assert torch.allclose(both, both.flip(-1), atol=1e-6)


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 2.0), (1.5,)])
@pytest.mark.parametrize("flip", [False, True])
def test_probabilities_sum_to_one_at_the_size_of_the_image(scales, flip):
    images = torch.randint(0, 256, (2, 3, 19, 23), dtype=torch.uint8)
    found = predictor(LeftIsOne()).probabilities(images, flip, scales)
    assert found.shape == (2, 2, 19, 23)
    assert torch.allclose(found.sum(1), torch.ones(2, 19, 23), atol=1e-5)


def test_tiny_images_are_padded_too():
    class Eight(LeftIsOne):
        pad_multiple = 8

        def forward(self, images):
            assert images.shape[-1] % 8 == images.shape[-2] % 8 == 0
            return super().forward(images)

    assert predictor(Eight()).logits(torch.zeros(1, 3, 3, 2, dtype=torch.uint8)).shape == (1, 2, 3, 2)


def test_groups_hold_one_size_and_keep_the_order():
    sizes = {"a": (4, 4), "b": (4, 4), "c": (4, 5), "d": (4, 5), "e": (4, 5), "f": (4, 4)}
    assert equal_size_groups("abcdef", sizes, 2) == [["a", "b"], ["c", "d"], ["e"], ["f"]]


def test_batches_bring_every_image_with_its_mask(tmp_path):
    masks = random_masks(list("abc"), (6, 7), 3) | random_masks(list("de"), (5, 7), 3)
    with Dataset(write_dataset(tmp_path / "d.h5", masks, 3)) as dataset:
        seen = {}
        for batch in image_batches(dataset, sorted(masks), 2, masks=True):
            seen |= dict(zip(batch.ids, batch.masks.numpy(), strict=True))
        assert sorted(seen) == sorted(masks)
        assert all((seen[name] == masks[name]).all() for name in masks)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    names = [f"i{number}" for number in range(8)]
    splits = dict(zip(names, ["train"] * 4 + ["val"] * 2 + ["test"] * 2, strict=True))
    dataset = write_dataset(folder / "d.h5", random_masks(names, (32, 40), 3), 3, splits)
    ledger = random_round(folder, dataset, 0)
    models = [
        train.run(dataset, ledger, folder / f"m{seed}.safetensors", TrainSettings(**TINY, epochs=1, seed=seed))
        for seed in (0, 1)
    ]
    return folder, dataset, models


def test_several_models_at_once_are_what_they_are_alone(world):
    folder, dataset, models = world
    settings = EvaluateSettings(checkpoint="last")
    together = Evaluation(evaluate.run(dataset, models, folder / "both.h5", settings))
    alone = [Evaluation(evaluate.run(dataset, [model], folder / f"{model.stem}.h5", settings)) for model in models]
    assert together.confusion.shape == (2, 3, 3)
    for row, one in enumerate(alone):
        assert (together.confusion[row] == one.confusion[0]).all()
    assert together.strings("models/file") == ["m0.safetensors", "m1.safetensors"]


def test_pixels_of_each_image_add_up_to_the_confusion(world):
    """Whatever the batch: hits are the diagonal, the truth the rows, predictions the columns."""
    folder, dataset, models = world
    for batch in (1, 4):
        settings = EvaluateSettings(split="train", batch=batch)
        with Evaluation(evaluate.run(dataset, models[:1], folder / f"i{batch}.h5", settings)) as file:
            confusion = file.confusion
            assert file.strings("images/id") == ["i0", "i1", "i2", "i3"]
            truth, predicted, hits = (file.read(f"images/{name}") for name in ("truth", "predicted", "hits"))
        assert predicted.shape == hits.shape == (len(confusion), 4, 3)
        assert (truth.sum(0) == confusion[0].sum(1)).all()
        assert (predicted.sum(1) == confusion.sum(1)).all()
        assert (hits.sum(1) == np.diagonal(confusion, axis1=1, axis2=2)).all()
        with Dataset(dataset) as data:
            assert truth[2].tolist() == [int((data.mask("i2") == value).sum()) for value in range(3)]


def test_json_says_the_same_as_the_artifact(world):
    folder, dataset, models = world
    evaluation = Evaluation(evaluate.run(dataset, models[:1], folder / "e.h5", EvaluateSettings(split="val")))
    report = json.loads((folder / "e.json").read_text())
    assert report["split"] == "val"
    for row, model in enumerate(report["models"]):
        assert model["confusion"] == evaluation.confusion[row].tolist()
        assert model["miou"] == pytest.approx(evaluation.read("miou")[row])
        defined = [value for value in model["iou"].values() if value is not None]
        assert model["miou"] == pytest.approx(np.mean(defined))


def test_confusion_counts_the_pixels_that_are_not_void(world):
    folder, dataset, models = world
    evaluation = Evaluation(evaluate.run(dataset, models[:1], folder / "c.h5", EvaluateSettings(flip=True)))
    with Dataset(dataset) as data:
        pixels = sum(int((data.mask(name) != 255).sum()) for name in data.ids("test"))
    assert evaluation.confusion[0].sum() == pixels


def test_batch_size_changes_nothing(world):
    folder, dataset, models = world
    digests = {
        Evaluation(evaluate.run(dataset, models[:1], folder / f"b{batch}.h5", EvaluateSettings(batch=batch))).digest
        for batch in (1, 2)
    }
    assert len(digests) == 1


def test_the_same_model_twice_is_refused(world):
    folder, dataset, models = world
    with pytest.raises(BadInput, match=r"^Two of the models are the same\. Pass each model once\.$"):
        evaluate.run(dataset, [models[0], models[0]], folder / "x.h5", EvaluateSettings())
