"""Weights that are chosen by masks nobody would have: the artifacts record it, and it is said aloud."""

import json

import pytest
from worlds import TINY, random_masks, random_round, write_dataset

from stages.artifacts.evaluation import Evaluation
from stages.artifacts.model import Model
from stages.commands import evaluate, train
from stages.runtime.errors import BadInput
from stages.settings.evaluate import EvaluateSettings
from stages.settings.train import TrainSettings

SPLITS = {"a": "train", "b": "train", "c": "val", "d": "test"}
POOL, REPORTED = "weights chosen on masks of the pool (split train)", "weights chosen on the reported split (test)"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A dataset, a ledger of its images for training, and models validated on each of its splits."""
    folder = tmp_path_factory.mktemp("world")
    dataset = write_dataset(folder / "d.h5", random_masks(list(SPLITS), (32, 40), 3), 3, SPLITS)
    ledger = random_round(folder, dataset, 0)
    for split in ("train", "val", "test", "none"):
        settings = TrainSettings(**TINY, epochs=1, crop=(32, 32), validation_split=split)
        train.run(dataset, ledger, folder / f"{split}.safetensors", settings)
    return folder


def evaluated(world, model, output, **settings):
    found = EvaluateSettings(device="cpu", **settings)
    return Evaluation(evaluate.run(world / "d.h5", [world / f"{model}.safetensors"], output, found))


@pytest.mark.parametrize("split, privilege", [("train", POOL), ("test", REPORTED), ("val", None), ("none", None)])
class TestPrivileges:
    def test_a_model_records_what_its_weights_were_chosen_on(self, world, split, privilege):
        assert Model(world / f"{split}.safetensors").attributes.get("oracle_privilege") == privilege

    def test_an_evaluation_hands_it_on(self, world, split, privilege, tmp_path, capsys):
        found = evaluated(world, split, tmp_path / "e.h5")
        assert found.attributes.get("oracle_privilege") == privilege
        assert json.loads((tmp_path / "e.json").read_text()).get("oracle_privilege") == privilege
        told = capsys.readouterr().out
        assert (f"Oracle privilege: {privilege}." in told) == (privilege is not None)


def test_training_says_it_aloud(world, tmp_path, capsys):
    settings = TrainSettings(**TINY, epochs=1, crop=(32, 32), validation_split="train")
    train.run(world / "d.h5", world / "ledger0.h5", tmp_path / "m.safetensors", settings)
    assert f"Oracle privilege: {POOL}. The model records it." in capsys.readouterr().out


def test_choosing_among_models_on_the_pool_is_one_and_on_the_validation_split_is_none(world, tmp_path):
    assert evaluated(world, "val", tmp_path / "p.h5", choose_on="train").attributes["oracle_privilege"] == POOL
    assert "oracle_privilege" not in evaluated(world, "val", tmp_path / "v.h5", choose_on="val").attributes


def test_the_best_epoch_reported_on_the_very_split_it_was_chosen_on_is_one(world, tmp_path):
    """As where a dataset has no other masks: its usual split to report is that of validation."""
    both = evaluated(world, "val", tmp_path / "b.h5", split="val")
    last = evaluated(world, "val", tmp_path / "l.h5", split="val", checkpoint="last")
    assert both.attributes["oracle_privilege"] == "weights chosen on the reported split (val)"
    assert "oracle_privilege" not in last.attributes


def test_void_cannot_be_learned_beside_255_classes(tmp_path):
    dataset = write_dataset(tmp_path / "d.h5", random_masks(["a", "b"], (32, 40), 255), 255)
    ledger = random_round(tmp_path, dataset, 0)
    settings = TrainSettings(**TINY, epochs=1, crop=(32, 32), learn_void=True)
    with pytest.raises(BadInput, match=r"has 255 classes, which leaves no number for void\. Set --no-learn-void\."):
        train.run(dataset, ledger, tmp_path / "m.safetensors", settings)
