"""Artifacts written before settings became nested are read as ever, and count as fresh.

tests/data/before holds one small artifact of each kind with its inputs, written by the commands below at version 0.1.0
under schema 1.2. They are never written again: what a later version cannot read or calls stale is a break for users.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from alseg_cli.app import app
from stages.artifacts.opening import KINDS, open_any
from stages.artifacts.verify import verify_one
from stages.reporting.inspection import describe

BEFORE = Path(__file__).parents[1] / "data" / "before"
NETWORK = "--weights none --backbone test_efficientnet --head-width 4 --low-level-width 2 --aspp-rates 2"
REGIONS = "--superpixels superpixels.h5"
COMMANDS = {
    "dataset.h5": "prepare tiny.toml",
    "superpixels.h5": "extract-superpixels dataset.h5 --method grid --region-pixels 64 --workers 1",
    "clusters.h5": "cluster-regions dataset.h5 superpixels.h5 --method random --clusters 3",
    "scores-0.h5": f"score dataset.h5 --measure random --unit region {REGIONS}",
    "queries-0.h5": f"select dataset.h5 scores-0.h5 {REGIONS} --rule top --budget 8",
    "annotations-0.h5": f"annotate-simulate dataset.h5 queries-0.h5 {REGIONS}",
    "model.safetensors": f"train dataset.h5 annotations-0.h5 {NETWORK} --epochs 1 --batch 2 --device cpu",
    "scores-1.h5": "score dataset.h5 --model model.safetensors --measure bvsb --unit region --class-balance pixels "
    + REGIONS,
    "queries-1.h5": f"select dataset.h5 scores-1.h5 {REGIONS} --annotations annotations-0.h5 --rule top --budget 4",
    "annotations-1.h5": f"annotate-simulate dataset.h5 queries-1.h5 {REGIONS} --annotations annotations-0.h5",
    "pseudo_labels.h5": "pseudo-label dataset.h5 annotations-1.h5 --model model.safetensors --min-pixels 10",
    "evaluation.h5": "evaluate dataset.h5 model.safetensors",
    "scores-pixels.h5": "score dataset.h5 --model model.safetensors",
    "queries-pixels.h5": "select dataset.h5 scores-pixels.h5 --budget 3",
}


@pytest.fixture
def copies(tmp_path, monkeypatch):
    shutil.copytree(BEFORE, tmp_path / "before")
    monkeypatch.chdir(tmp_path / "before")
    return tmp_path / "before"


def test_every_kind_is_there():
    later = {"images"}  # kinds that no version then could write
    assert {open_any(BEFORE / name).header.kind for name in COMMANDS} == {*KINDS, "model"} - later


@pytest.mark.parametrize("name", COMMANDS)
def test_is_read_whole(name):
    faults, _ = verify_one(BEFORE / name)
    assert faults == []
    artifact = open_any(BEFORE / name)
    assert artifact.header.schema_version == "1.2"
    assert describe(artifact)["arrays"]


@pytest.mark.parametrize("name", COMMANDS)
def test_counts_as_fresh(name, copies):
    before = (copies / name).read_bytes()
    done = CliRunner().invoke(app, [*COMMANDS[name].split(), "-o", name], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert f"{name} is up to date" in done.output
    assert (copies / name).read_bytes() == before


def test_a_model_of_then_still_predicts(copies):
    words = ["score", "dataset.h5", "--model", "model.safetensors", "--device", "cpu", "-o", "again.h5"]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    then, now = open_any(copies / "scores-pixels.h5"), open_any(copies / "again.h5")
    for image in then.ids:  # another processor rounds otherwise
        assert np.allclose(then.map(image), now.map(image), atol=1e-4)
