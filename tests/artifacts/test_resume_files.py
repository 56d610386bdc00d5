"""Resume files: whose are kept, whose are removed, and what is never touched."""

import os

import pytest
import torch
from worlds import random_masks, write_dataset

from stages.artifacts.opening import read_any_header
from stages.commands import score
from stages.runtime.errors import BadInput
from stages.settings.score import ScoreSettings
from stages.training.checkpoints import Checkpoints

RANDOM = ScoreSettings(measure="random")
KEYS = [f"{number:064x}"[::-1] for number in range(1, 6)]


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "d.h5", random_masks(["a", "b"], (12, 12), 3), 3)


def checkpoints(folder, number):
    return Checkpoints(folder / "m.safetensors", KEYS[number])


def train(folder, number, last=True):
    """What a training does with its checkpoints; ``last``: it ends."""
    mine = checkpoints(folder, number)
    mine.remove_others()
    for step in (1, 2, 3):
        mine.save(step, {"number": torch.tensor(number)})
    for path in mine.paths():
        os.utime(path, ns=(number, number))
    if last:
        mine.remove()


def test_a_training_of_other_settings_leaves_the_checkpoints_of_a_stopped_one(tmp_path, capsys):
    train(tmp_path, 0, last=False)
    train(tmp_path, 1)
    assert checkpoints(tmp_path, 0).load() == {"number": torch.tensor(0)}
    assert "keeps files of runs with other settings (1)" in capsys.readouterr().out
    train(tmp_path, 0)
    assert not (tmp_path / "m.safetensors.work").exists()


def test_only_the_two_latest_others_are_kept(tmp_path, capsys):
    for number in range(4):
        train(tmp_path, number, last=False)
    assert [checkpoints(tmp_path, number).load() is None for number in range(4)] == [True, False, False, False]
    assert "removed the files of all but the 2 latest runs with other settings" in capsys.readouterr().out


def test_files_of_others_in_these_folders_are_never_removed(tmp_path, dataset):
    """Neither by a build, nor by its end, nor by clearing up after a kill."""
    for folder in (tmp_path / "s.h5.parts", tmp_path / "s.h5.work"):
        (folder / "deep").mkdir(parents=True)
        for name in ("notes.txt", "deep/notes.txt", "00000-mine.h5", "mine.partial", ".hidden", "step-1.pt"):
            (folder / name).write_text("mine")
        (folder / "deep" / f"00000-{'a' * 16}.h5").write_text("mine")
    outside = tmp_path / ".s.h5.notes.partial"
    outside.write_text("mine")
    expected = {path: path.is_file() for path in [*tmp_path.rglob("s.h5.*/**/*"), outside]}
    for options in ({}, {}, {"force": True}):
        score.run(dataset, tmp_path / "s.h5", RANDOM, **options)
        assert {path: path.is_file() for path in [*tmp_path.rglob("s.h5.*/**/*"), *tmp_path.glob(".s*")]} == expected
    mine = Checkpoints(tmp_path / "s.h5", KEYS[0])
    mine.remove_others()
    mine.save(1, {})
    mine.remove()
    assert {path: path.is_file() for path in [*tmp_path.rglob("s.h5.*/**/*"), *tmp_path.glob(".s*")]} == expected


@pytest.mark.parametrize("ending", [".parts", ".work"])
def test_a_link_in_the_place_of_a_folder_is_refused_and_never_followed(ending, tmp_path, dataset, capsys):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    output = score.run(dataset, tmp_path / "s.h5", RANDOM)
    before = output.read_bytes()
    (tmp_path / f"s.h5{ending}").symlink_to(elsewhere)
    request_files = [elsewhere / f"00000-{'a' * 16}.h5", elsewhere / "notes.txt"]
    for path in request_files:
        path.write_text("mine")
    with pytest.raises(BadInput, match=f"s.h5{ending} is a symbolic link.* Remove it or choose another output"):
        score.run(dataset, output, ScoreSettings(measure="random", seed=1))
    score.run(dataset, output, RANDOM)
    assert "is up to date" in capsys.readouterr().out
    assert sorted(elsewhere.iterdir()) == sorted(request_files)
    assert output.read_bytes() == before
    assert (tmp_path / f"s.h5{ending}").is_symlink()


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path, dataset):
    (tmp_path / "s.h5.parts").write_text("mine")
    with pytest.raises(BadInput, match=r"s.h5.parts is not a folder.* Remove it or choose another output"):
        score.run(dataset, tmp_path / "s.h5", RANDOM)
    assert (tmp_path / "s.h5.parts").read_text() == "mine"


def test_a_link_in_the_place_of_the_lock_is_never_written_to(tmp_path, dataset):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".s.h5.lock").symlink_to(tmp_path / "notes.txt")
    with pytest.raises(BadInput, match=r"Cannot write .*lock: .* Choose another output"):
        score.run(dataset, tmp_path / "s.h5", RANDOM)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_shards_of_other_settings_are_kept_and_gone_on_from(tmp_path, dataset, monkeypatch):
    """The stage is stopped after its shards; another one with other settings runs to its end in between."""
    monkeypatch.setattr(score, "SHARD_IMAGES", 1)

    def stopped(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(score, "join_shards", stopped)
        with pytest.raises(KeyboardInterrupt):
            score.run(dataset, tmp_path / "s.h5", RANDOM)
    left = {path: path.stat().st_mtime_ns for path in (tmp_path / "s.h5.parts").iterdir()}
    assert len(left) == 2
    score.run(dataset, tmp_path / "s.h5", ScoreSettings(measure="random", seed=1))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "s.h5.parts").iterdir()} == left
    score.run(dataset, tmp_path / "s.h5", RANDOM)
    assert read_any_header(tmp_path / "s.h5").seed == 0
    assert not (tmp_path / "s.h5.parts").exists()
