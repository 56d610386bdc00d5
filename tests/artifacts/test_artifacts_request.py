"""What an output may replace, and what decides whether it is up to date."""

import pytest
from worlds import random_masks, random_round, write_dataset

from stages.artifacts.opening import open_any
from stages.commands import annotate_simulate, score, select
from stages.runtime.errors import BadInput
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings


@pytest.fixture
def world(tmp_path):
    dataset = write_dataset(tmp_path / "d.h5", random_masks(["a", "b"], (12, 12), 3), 3)
    ledger = random_round(tmp_path, dataset, 0)
    return tmp_path, dataset, ledger


RANDOM = ScoreSettings(measure="random")


def test_an_input_is_never_overwritten(world):
    folder, dataset, ledger = world
    before = ledger.read_bytes()
    queries = select.run(dataset, folder / "scores0.h5", folder / "q.h5", SelectSettings(), ledger)
    with pytest.raises(BadInput, match=r"is the \w+ input of this stage\. Choose another output\.$"):
        annotate_simulate.run(dataset, queries, ledger, AnnotateSettings(), ledger)
    with pytest.raises(BadInput, match=r"is the \w+ input of this stage\. Choose another output\.$"):
        score.run(dataset, dataset, RANDOM, force=True)
    assert ledger.read_bytes() == before


def test_another_kind_or_a_foreign_file_is_never_overwritten(world):
    folder, dataset, ledger = world
    foreign = folder / "thesis.tex"
    foreign.write_text("years of work")
    for output, told in (
        (ledger, r"holds annotations, not scores\. Remove it or choose another output\.$"),
        (foreign, r"exists and is not an alseg artifact\. Remove it or choose another output\.$"),
        (folder, r"is a folder\. Choose a file name for the output\.$"),
    ):
        with pytest.raises(BadInput, match=told):
            score.run(dataset, output, RANDOM)
    assert foreign.read_text() == "years of work"
    open_any(ledger)


def test_a_damaged_output_is_built_again(world):
    folder, dataset, _ = world
    output = score.run(dataset, folder / "s.h5", RANDOM)
    digest, content = open_any(output).header.digest, output.read_bytes()
    output.write_bytes(content[: len(content) // 2])
    assert open_any(score.run(dataset, output, RANDOM)).header.digest == digest


def test_the_reason_of_a_rebuild_is_named(world, capsys):
    folder, dataset, _ = world
    output = score.run(dataset, folder / "s.h5", RANDOM)
    capsys.readouterr()
    score.run(dataset, output, RANDOM)
    assert "up to date" in capsys.readouterr().out
    score.run(dataset, output, ScoreSettings(measure="random", seed=3, dtype="float16"))
    told = capsys.readouterr().out
    assert "seed 0 is now 3" in told
    assert "setting dtype float32 is now float16" in told


def test_random_scores_do_not_depend_on_the_model(world):
    """A measure that does not read the model is not made stale by it."""
    folder, dataset, _ = world
    assert "model" not in open_any(score.run(dataset, folder / "s.h5", RANDOM)).header.inputs
