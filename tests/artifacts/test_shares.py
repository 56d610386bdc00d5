"""Shares of a stage's work: which parts belong to which, their locks, and that joined they make the same bytes."""

import fcntl

import pytest
from worlds import random_masks, write_dataset

from stages.artifacts import request
from stages.artifacts.locks import output_lock, running_shares, share_lock
from stages.commands import extract_superpixels, score
from stages.runtime.errors import BadInput, StageFailed
from stages.runtime.shares import Share, parse_share
from stages.settings.extract_superpixels import ExtractSettings
from stages.settings.score import ScoreSettings

STAGES = [
    (score, ScoreSettings(measure="random")),
    (extract_superpixels, ExtractSettings(method="grid", region_pixels=64, workers=1)),
]


@pytest.mark.parametrize("count", [0, 1, 7, 16, 190])
def test_shares_divide_all_parts_evenly(count):
    shares = [parse_share(f"{index}/16").of(count) for index in range(16)]
    assert sorted(part for share in shares for part in share) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["16/16", "0/0", "x", "-1/4", "1", "1/2/3", "", "0.5/2", "²/4", "1/" + 5000 * "9"])
def test_no_share(text):
    with pytest.raises(BadInput, match=r"^--shard must be K/N with K from 0 to N-1, such as 3/16, not "):
        parse_share(text)


@pytest.mark.parametrize("stage, settings", STAGES, ids=["score", "extract-superpixels"])
def test_joined_shares_are_the_same_bytes(stage, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "SHARD_IMAGES", 2)
    monkeypatch.setattr(request, "now", lambda: "2026-01-01T00:00:00+00:00")
    dataset = write_dataset(tmp_path / "d.h5", random_masks([*"abcdefg"], (16, 16), 3), 3)
    whole = stage.run(dataset, tmp_path / "whole.h5", settings)
    for index in (2, 0, 1):
        stage.run(dataset, tmp_path / "x.h5", settings, share=Share(index, 3))
    assert stage.run(dataset, tmp_path / "x.h5", settings).read_bytes() == whole.read_bytes()
    assert sorted(tmp_path.iterdir()) == [dataset, whole, tmp_path / "x.h5"]


def test_locks_of_shares(tmp_path):
    """They are held together, never with the whole output, and what dead processes leave blocks nobody."""
    output = tmp_path / "x.h5"
    with share_lock(output, Share(0, 3)), share_lock(output, Share(2, 3)):
        assert "shard " in running_shares(output)
        assert running_shares(output).endswith(" and 1 more")
        with pytest.raises(StageFailed, match=r"^Shard 2/3 of .*x.h5 is being written by process \d+ on "):
            share_lock(output, Share(2, 3)).__enter__()
        with pytest.raises(StageFailed, match=r"x.h5 is being written by shard \d/3 \(process .*\) and 1 more"):
            output_lock(output).__enter__()
        with pytest.raises(BlockingIOError), (tmp_path / ".x.h5.lock").open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    (tmp_path / ".x.h5.5-of-6.lock").write_text("process 4194303 on elsewhere")
    assert running_shares(output) == ""
    with output_lock(output), pytest.raises(StageFailed, match=r"x.h5 is being written by process \d+ on "):
        share_lock(output, Share(0, 3)).__enter__()
    assert not list(tmp_path.iterdir())
