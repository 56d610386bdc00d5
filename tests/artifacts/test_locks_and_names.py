"""File systems without locks, names that are too long, and interruptions around the moment of publishing."""

import errno
import fcntl
import os

import pytest
from worlds import random_masks, write_dataset

from stages.artifacts.hdf5 import build_in_memory
from stages.artifacts.publish import publish_bytes
from stages.artifacts.request import Request, produce, publish_extra
from stages.commands import score
from stages.runtime.errors import BadInput, StageFailed
from stages.settings.score import ScoreSettings

RANDOM = ScoreSettings(measure="random")


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "d.h5", random_masks(["a", "b"], (12, 12), 3), 3)


def refusing(number):
    def flock(*arguments):
        raise OSError(number, os.strerror(number))

    return flock


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK])
def test_without_locks_nothing_is_built(number, tmp_path, dataset, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", refusing(number))
    with pytest.raises(BadInput, match=r"is on a file system without file locks .* Choose an output on a local disk"):
        score.run(dataset, tmp_path / "s.h5", RANDOM)
    assert not (tmp_path / "s.h5").exists()
    assert not (tmp_path / "s.h5.parts").exists()


def test_any_other_fault_of_a_lock_is_a_sentence_too(tmp_path, dataset, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", refusing(errno.EIO))
    with pytest.raises(BadInput, match=r"Cannot lock files in .*: Input/output error"):
        score.run(dataset, tmp_path / "s.h5", RANDOM)
    assert not (tmp_path / "s.h5").exists()


def test_what_is_up_to_date_needs_no_lock(tmp_path, dataset, monkeypatch, capsys):
    score.run(dataset, tmp_path / "s.h5", RANDOM)
    monkeypatch.setattr(fcntl, "flock", refusing(errno.ENOLCK))
    score.run(dataset, tmp_path / "s.h5", RANDOM)
    assert "is up to date" in capsys.readouterr().out


@pytest.mark.parametrize("length", [246, 255, 300, 5000])
def test_a_name_that_is_too_long_is_refused_before_the_work(length, tmp_path, dataset):
    """Names of 246 characters are fine themselves, but not with what temporary names have in addition."""
    built = []
    output = tmp_path / ("x" * (length - 3) + ".h5")
    with pytest.raises(BadInput, match=r"File name too long. Choose another output"):
        produce(Request("score", "scores", output, RANDOM, {}), lambda: built.append(1) or "", force=True)
    assert not built
    assert [path.name for path in tmp_path.iterdir()] == ["d.h5"]
    with pytest.raises(BadInput, match=r"File name too long. Choose another output"):
        publish_extra(tmp_path / ("x" * length), b"")
    assert [path.name for path in tmp_path.iterdir()] == ["d.h5"]


def publish(request):
    publish_bytes(request.output, build_in_memory(lambda writer: request.header()))


@pytest.mark.parametrize("rebuilt", [False, True])
def test_an_interruption_after_publishing_is_no_failure(rebuilt, tmp_path, capsys):
    request = Request("score", "scores", tmp_path / "s.h5", RANDOM, {})
    if rebuilt:
        publish(request)

    def build():
        publish(request)
        raise KeyboardInterrupt

    try:
        assert produce(request, build, force=True) == request.output
    except KeyboardInterrupt:  # it would end the tests
        pytest.fail("the stage failed")
    assert "wrote" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["s.h5"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, StageFailed])
def test_before_publishing_it_is_one(error, tmp_path):
    request = Request("score", "scores", tmp_path / "s.h5", RANDOM, {})
    publish(request)

    def build():
        raise error

    with pytest.raises(error):
        produce(request, build, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["s.h5"]
