"""Acceptance checks 22 and 23 of ALS4GAN: padding costs nothing, and checkpoints are chosen without the test split."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from als4gan_support import changed, history, made_of, settings_of
from torch import nn

from stages.artifacts.dataset import Dataset
from stages.artifacts.evaluation import Evaluation
from stages.commands import evaluate, train
from stages.evaluating.confusion import mean_iou
from stages.evaluating.on_masks import evaluate_one
from stages.evaluating.views import EvaluationView
from stages.networks.predictor import Predictor
from stages.pixels.void import VOID
from stages.runtime.errors import BadInput
from stages.settings.evaluate import EvaluateSettings


class ByColour(nn.Module):
    """Perfect logits on a canvas: class 1 where an image is bright."""

    def __init__(self, pad_multiple):
        super().__init__()
        self.pad_multiple, self.sizes = pad_multiple, []

    def forward(self, images):
        self.sizes.append(tuple(images.shape[-2:]))
        bright = images.mean(1, keepdim=True)
        return torch.cat([-bright, bright], 1)


@pytest.mark.parametrize("side, multiple, canvas", [(256, 320, 320), (256, 8, 256), (250, 320, 320), (256, 200, 400)])
def test_check_22_a_perfect_network_is_perfect_on_a_padded_canvas(tmp_path, side, multiple, canvas):
    mask = np.zeros((256, side), np.uint8)
    mask[:, 128:] = 1
    image = np.repeat(mask[..., None] * 200 + 20, 3, 2).astype(np.uint8)
    path = made_of(tmp_path / "d.h5", {"x0": (image, mask), "x1": (image[:, ::-1], mask[:, ::-1])}, 2)
    network = ByColour(multiple)
    predictor = Predictor(network, (0.5,) * 3, (0.25,) * 3, torch.device("cpu"))
    with Dataset(path) as data:
        view = EvaluationView(data, "test")
        found, _ = evaluate_one(predictor, view, view.ids, False, (1.0,), 4)
    assert {width for _, width in network.sizes} == {canvas}
    assert found.sum() == 2 * mask.size
    assert mean_iou(found) == 1


@pytest.mark.parametrize(
    "found, best",
    [((0.2, 0.5, 0.5, 0.4), 1), ((np.nan, 0.0, 0.1), 2), ((np.nan, 0.0), 1), ((np.nan, np.nan), 0), ((0.0, 0.0), 0)],
)
def test_check_23_the_first_of_the_best_wins(found, best):
    assert evaluate.first_best(found) == best


@pytest.fixture(scope="module")
def second(world):
    """Another model of the same data."""
    output = world["folder"] / "second.safetensors"
    return train.run(world["dataset"], world["masks"], output, settings_of("model", seed=1, backbone_lr=1e-2))


def test_check_23_no_test_mask_is_opened_while_choosing(world, second, tmp_path, monkeypatch):
    """Every mask of val is read for every candidate, then those of test once, for the chosen alone."""
    reads, original = [], Dataset.mask

    def mask(data, image, grid=None):
        reads.append(image)
        return original(data, image, grid)

    monkeypatch.setattr(Dataset, "mask", mask)
    models = [world["model"], second]
    chosen = settings_of("evaluation", choose_on="val")
    path = evaluate.run(world["dataset"], models, tmp_path / "e.h5", chosen)
    assert reads[-2:] == ["x0", "x1"]
    assert set(reads[:-2]) == {"v0", "v1"}
    assert len(reads[:-2]) >= 4
    report = json.loads(path.with_suffix(".json").read_text())
    told = report["chosen_on"]
    assert [entry["file"] for entry in told["candidates"]] == ["model.safetensors"] * 2 + ["second.safetensors"] * 2
    found = [entry["miou"] for entry in told["candidates"]]
    assert told["split"] == "val"
    assert told["miou"] == max(found)
    best = told["candidates"][found.index(max(found))]
    (entry,) = report["models"]
    assert (Path(entry["file"]).name, entry["checkpoint"]) == (best["file"], best["checkpoint"])
    plain = Evaluation(evaluate.run(world["dataset"], models, tmp_path / "all.h5", settings_of("evaluation")))
    assert len(plain.read("miou")) == 4
    assert Evaluation(path).read("miou")[0] == plain.read("miou")[found.index(max(found))]
    monkeypatch.undo()
    validated = {file: history(world["folder"] / file) for file in ("model.safetensors", "second.safetensors")}
    for entry in told["candidates"]:
        rows = [row["val_miou"] for row in validated[entry["file"]]]
        assert entry["miou"] == pytest.approx(rows[-1] if entry["checkpoint"] == "last" else max(rows))


def test_check_23_a_sweep_without_a_number_takes_the_first_and_does_not_crash(world, second, tmp_path):
    def change(file):
        for name in ("v0", "v1"):
            file[f"masks/{name}"][:] = VOID

    void = changed(world["dataset"], tmp_path / "void.h5", change)
    chosen = settings_of("evaluation", choose_on="val")
    path = evaluate.run(void, [second, world["model"]], tmp_path / "e.h5", chosen)
    report = json.loads(path.with_suffix(".json").read_text(), parse_constant=pytest.fail)
    assert {entry["miou"] for entry in report["chosen_on"]["candidates"]} == {None}
    assert Path(report["models"][0]["file"]).name == "second.safetensors"
    assert np.isfinite(report["models"][0]["miou"])


def test_check_23_the_split_that_is_reported_is_refused_for_choosing(world, blind, tmp_path):
    with pytest.raises(BadInput, match=r"choose_on must differ from split, which is the split to report$"):
        EvaluateSettings.load({"choose_on": "test"})
    with pytest.raises(BadInput, match=r"blind\.h5 has no masks in split 'train'\. Choose another --choose-on\.$"):
        evaluate.run(blind, [world["model"]], tmp_path / "e.h5", settings_of("evaluation", choose_on="train"))
