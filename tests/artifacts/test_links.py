"""Outputs and inputs behind links, and outputs that are no files."""

import os

import pytest
from worlds import random_masks, write_dataset

from stages.artifacts.dataset import Dataset
from stages.artifacts.opening import open_any, open_input, read_any_header
from stages.artifacts.request import publish_extra
from stages.artifacts.scores import Scores
from stages.artifacts.verify import verify_one
from stages.commands import score
from stages.runtime.errors import BadInput
from stages.settings.score import ScoreSettings

RANDOM = ScoreSettings(measure="random")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A dataset in a folder to work in, and a link there to a folder far away."""
    (tmp_path / "here").mkdir()
    (tmp_path / "scratch/deep/run").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    write_dataset(tmp_path / "here" / "d.h5", random_masks(["a", "b"], (12, 12), 3), 3)
    (tmp_path / "here" / "link").symlink_to(tmp_path / "scratch/deep/run")
    return tmp_path / "here"


@pytest.mark.parametrize("reached", ["here/link", "scratch/deep/run"])
def test_a_run_through_a_linked_folder_is_fresh_from_both_sides(place, reached, capsys):
    output = score.run(place / "d.h5", place.parent / "here/link/s.h5", RANDOM)
    found = place.parent / reached / "s.h5"
    assert verify_one(found) == ([], [])
    capsys.readouterr()
    score.run(place / "d.h5", found, RANDOM)
    assert "is up to date" in capsys.readouterr().out
    with Scores(found) as scores, open_input(scores, "dataset", Dataset) as dataset:
        assert dataset.ids("train") == ["a", "b"]
    assert read_any_header(output).inputs["dataset"].file == "../../../here/d.h5"


def test_an_input_behind_a_linked_folder_is_never_the_output(place):
    (place / "link/other").mkdir()
    (place / "other").symlink_to(place / "link/other")
    inside = write_dataset(place / "link/other/d.h5", random_masks(["a"], (12, 12), 3), 3)
    before = inside.read_bytes()
    with pytest.raises(BadInput, match=r"is the dataset input of this stage"):
        score.run(place / "link/other/d.h5", place / "other/d.h5", RANDOM, force=True)
    assert inside.read_bytes() == before


@pytest.mark.parametrize("existing", [False, True])
def test_an_output_that_is_a_link_is_written_where_it_leads(place, existing):
    target = place / "link" / "real.h5"
    if existing:
        score.run(place / "d.h5", target, RANDOM)
    (place / "s.h5").symlink_to(target)
    score.run(place / "d.h5", place / "s.h5", ScoreSettings(measure="random", seed=1))
    assert (place / "s.h5").is_symlink()
    assert read_any_header(target).seed == 1
    assert verify_one(place / "s.h5") == verify_one(target) == ([], [])
    assert sorted(path.name for path in target.parent.iterdir()) == ["real.h5"]
    assert sorted(path.name for path in place.iterdir()) == ["d.h5", "link", "s.h5"]


def test_a_plot_or_makefile_that_is_a_link_is_written_where_it_leads(place):
    (place / "page.html").symlink_to(place / "link" / "real.html")
    publish_extra(place / "page.html", b"page")
    assert (place / "page.html").is_symlink()
    assert (place / "link" / "real.html").read_bytes() == b"page"
    (place / "linked.h5").symlink_to(place / "d.h5")
    with pytest.raises(BadInput, match=r"is an artifact. Choose another output"):
        publish_extra(place / "linked.h5", b"page")
    open_any(place / "d.h5")


def test_what_is_no_regular_file_is_refused_and_stays(place):
    os.mkfifo(place / "pipe")
    (place / "linked-pipe").symlink_to(place / "pipe")
    (place / "loop").symlink_to(place / "loop")
    for name, says in [("pipe", "is not a regular file"), ("linked-pipe", "is not a regular file"), ("loop", "itself")]:
        with pytest.raises(BadInput, match=rf"{name} .*{says}.* Choose another output"):
            score.run(place / "d.h5", place / name, RANDOM)
        with pytest.raises(BadInput, match=rf"{name} .*{says}.* Choose another output"):
            publish_extra(place / name, b"page")
    assert (place / "pipe").is_fifo()
    assert (place / "loop").is_symlink()
    assert sorted(path.name for path in place.iterdir()) == ["d.h5", "link", "linked-pipe", "loop", "pipe"]
