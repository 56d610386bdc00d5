"""Benchmarks are run rarely; what they are made of has to fit the program all the same."""

import os
import subprocess
from pathlib import Path

import pytest

from stages.artifacts.queries import Queries
from stages.commands import prepare, select
from stages.settings.prepare import PrepareSettings
from stages.settings.select import SelectSettings
from stages.training.checkpoints import Checkpoints
from tests.bench.limited import inside
from tests.bench.loading import SETTINGS, drop, labels
from tests.bench.material import DISTINCT, many_files
from tests.bench.memory import CASES, QUICK_CASES, fitted
from tests.bench.regions import write_pool
from tests.bench.training import KEY, new_training


def test_formula_of_memory():
    """600 MB, 2 kB per image, 30 bytes per pixel and 50 per pixel and class."""
    for cases in (CASES, QUICK_CASES):
        peaks = [6e8 + 2e3 * case.images + case.pixels * (30 + 50 * case.classes) for case in cases]
        found, off = fitted(cases, peaks)
        assert found == pytest.approx([6e8, 2e3, 30, 50], rel=1e-3)
        assert off < 1e-6


def test_a_formula_tells_how_far_it_is_off():
    peaks = [6e8, 6e8, 9e8, 6e8, 6e8]  # more per pixel, but not where there are more classes
    assert 0.05 < fitted(CASES, peaks)[1] < 1


def test_select_reads_the_pool_of_regions(tmp_path):
    dataset, superpixels, scores = (tmp_path / f"{name}.h5" for name in ("dataset", "superpixels", "scores"))
    write_pool(dataset, superpixels, scores, images=2, per_image=4)
    settings = SelectSettings(rule="top", budget=3)
    queries = select.run(dataset, scores, tmp_path / "q.h5", settings, superpixels=superpixels)
    assert len(Queries(queries)) == 3


def test_checkpoints_of_a_benchmark_are_removed(tmp_path):
    checkpoints = Checkpoints(tmp_path / "model", KEY)
    checkpoints.save(1, {})
    assert checkpoints.load() == {}
    checkpoints.remove()
    assert checkpoints.load() is None


def test_many_files_are_prepared_and_trained_on(tmp_path):
    """Also where they lie, with the page cache dropped."""
    import torch

    from stages.settings.train import TrainSettings

    description = many_files(tmp_path / "files", DISTINCT + 2, 32, 48)
    given = PrepareSettings(in_place=True)
    dataset = prepare.run(str(description), tmp_path / "files", tmp_path / "d.h5", given)
    assert (tmp_path / "files/images/000016.jpg").samefile(tmp_path / "files/images/000000.jpg")
    settings = TrainSettings.load(SETTINGS | {"crop": (32, 32), "batch": 2, "epochs": 1})
    training = new_training(dataset, labels(dataset, DISTINCT), settings, torch.device("cpu"))
    drop([dataset])
    assert len(training.learner.samples) == DISTINCT


def test_a_command_enters_its_group_before_it_starts(tmp_path):
    found = subprocess.run(inside(tmp_path, ["echo", "a b"]), capture_output=True, text=True, check=True)
    assert found.stdout == "a b\n"
    assert int(Path(tmp_path / "cgroup.procs").read_text()) != os.getpid()
