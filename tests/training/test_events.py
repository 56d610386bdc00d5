"""Event files for TensorBoard: what the history says, once, whatever happened in between."""

import builtins
import csv

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from worlds import random_masks, random_round, write_dataset

from stages.commands import train
from stages.runtime.errors import BadInput
from stages.settings.train import TrainSettings
from stages.training.events import event_writer, events_folder

TINY = {"backbone": "test_efficientnet", "weights": "none", "head_width": 8, "low_level_width": 4, "device": "cpu"}


def told(folder):
    """Epochs and values of each column in the event files of ``folder``."""
    events = EventAccumulator(str(folder)).Reload()
    return {name: [(each.step, each.value) for each in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_a_training_tells_its_history(tmp_path):
    ids = [f"i{number}" for number in range(4)]
    dataset = write_dataset(tmp_path / "d.h5", random_masks(ids, (32, 40), 3), 3, {"i3": "val"})
    ledger = random_round(tmp_path, dataset, 0, select_settings={"budget": 5})
    settings = TrainSettings.load({**TINY, "epochs": 3, "batch": 2, "validate_every": 2, "tensorboard": True})
    events = told(events_folder(train.run(dataset, ledger, tmp_path / "m.safetensors", settings)))
    with (tmp_path / "m.history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert events.keys() == rows[0].keys() - {"epoch", "step"}
    for name, values in events.items():
        expected = [(int(row["epoch"]), float(row[name])) for row in rows if row[name]]
        assert [step for step, _ in values] == [step for step, _ in expected], name
        assert [value for _, value in values] == pytest.approx([value for _, value in expected]), name


def test_epochs_that_are_repeated_are_told_once(tmp_path):
    rows = [{"epoch": number, "step": 10 * number, "loss": float(number)} for number in range(1, 5)]
    for begin, end in ((1, 3), (3, 4)):  # stopped after the third epoch was told, but only two were saved
        with event_writer(tmp_path) as write:
            for number in range(begin, end + 1):
                write(rows[:number])
    assert told(tmp_path) == {"loss": [(number, float(number)) for number in range(1, 5)]}


def test_a_training_that_begins_anew_leaves_nothing_of_the_one_before(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for losses in ((5.0, 4.0, 3.0), (2.0,)):
        with event_writer(tmp_path) as write:
            history = []
            for number, loss in enumerate(losses, 1):
                history.append({"epoch": number, "step": number, "loss": loss})
                write(history)
    assert told(tmp_path) == {"loss": [(1, 2.0)]}
    assert (tmp_path / "notes.txt").exists()


def test_without_the_package_one_sentence_says_how_to_get_it(tmp_path, monkeypatch):
    whole = builtins.__import__

    def without(name, *rest):
        if name == "torch.utils.tensorboard":
            raise ImportError("No module named 'tensorboard'")
        return whole(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BadInput, match=r"Run: pip install 'alseg\[tensorboard\]'"), event_writer(tmp_path):
        pass
