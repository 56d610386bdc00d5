"""Validation sees images and masks as `evaluate` does: at their own size, cropped, with the same mean over classes."""

import csv
from pathlib import Path

import pytest
from worlds import TINY, random_round

from stages.artifacts.evaluation import Evaluation
from stages.commands import evaluate, prepare, train
from stages.runtime.errors import BadInput
from stages.settings.evaluate import EvaluateSettings
from stages.settings.prepare import PrepareSettings
from stages.settings.train import TrainSettings

TINY_SCENES = Path(__file__).parents[1] / "data" / "before" / "tiny.toml"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Four scenes of 24 x 32 to learn from; one to validate on, also kept as drawn, 48 x 64."""
    folder = tmp_path_factory.mktemp("world")
    how = PrepareSettings(workers=1, scale=0.5, evaluation_scale=1)
    dataset = prepare.run(str(TINY_SCENES), None, folder / "d.h5", how)
    return dataset, random_round(folder, dataset, 0)


def trained(world, path, **values):
    settings = TrainSettings.load({}, offered=TINY | {"epochs": 1, "workers": 0} | values)
    return train.run(*world, path, settings)


@pytest.mark.parametrize(
    "how", [{"at": "original"}, {"at": "original", "crop": 32, "undefined": "one"}, {"undefined": "zero"}]
)
def test_the_last_validation_is_the_number_of_evaluate(world, tmp_path, how):
    model = trained(world, tmp_path / "m.safetensors", **{f"validate_{name}": value for name, value in how.items()})
    row = list(csv.DictReader((tmp_path / "m.history.csv").open()))[-1]
    settings = EvaluateSettings(split="val", checkpoint="last", device="cpu", **how)
    with Evaluation(evaluate.run(world[0], [model], tmp_path / "e.h5", settings)) as file:
        assert float(row["val_miou"]) == pytest.approx(file.read("miou")[0], abs=1e-5)
        assert file.attributes["image_sizes"] == {0: "24x32", 1: "48x64", 2: "32x32"}[len(how.keys() - {"undefined"})]


def test_training_stops_before_it_starts_if_the_size_was_not_kept(tmp_path):
    dataset = prepare.run(str(TINY_SCENES), None, tmp_path / "d.h5", PrepareSettings(workers=1, scale=0.5))
    labels = random_round(tmp_path, dataset, 0)
    with pytest.raises(BadInput, match=r"keeps its images only as resized.*--validate-at dataset\)\.$"):
        trained((dataset, labels), tmp_path / "m.safetensors", validate_at="original")
