"""What a network ran with is recorded, reported if it is not what is asked for, and stale only on request."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner
from worlds import TINY, random_masks, random_round, region_round, write_clusters, write_dataset, write_superpixels

from alseg_cli.app import app
from stages.artifacts.model import Model
from stages.artifacts.opening import open_any
from stages.artifacts.request import Request
from stages.artifacts.verify import verify_one
from stages.commands import evaluate, extract_superpixels, pseudo_label, score, train
from stages.settings.evaluate import EvaluateSettings
from stages.settings.extract_superpixels import ExtractSettings
from stages.settings.pseudo_label import PseudoLabelSettings
from stages.settings.score import ScoreSettings
from stages.settings.train import TrainSettings

BEFORE = Path(__file__).parents[1] / "data" / "before"
COMPUTING = {"device", "precision", "threads", "instructions"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("computing")
    names = ["a", "b", "c", "d"]
    splits = dict(zip(names, ["train", "train", "val", "test"], strict=True))
    dataset = write_dataset(folder / "d.h5", random_masks(names, (32, 32), 3), 3, splits)
    regions = write_superpixels(folder, dataset)
    ledger = region_round(folder, dataset, 0, regions)
    model = train.run(dataset, ledger, folder / "m.safetensors", TrainSettings(**TINY, epochs=1))
    return folder, dataset, regions, ledger, model


def test_every_stage_with_a_network_records_what_it_ran_with(world, tmp_path):
    _, dataset, regions, ledger, model = world
    adaptive = ExtractSettings(method="adaptive", workers=1)
    artifacts = [
        model,
        score.run(dataset, tmp_path / "s.h5", ScoreSettings(), model),
        extract_superpixels.run(dataset, tmp_path / "r.h5", adaptive, regions, model),
        pseudo_label.run(dataset, ledger, model, tmp_path / "p.h5", PseudoLabelSettings()),
        evaluate.run(dataset, [model], tmp_path / "e.h5", EvaluateSettings()),
        write_clusters(tmp_path, dataset, regions),
    ]
    for artifact in artifacts:
        versions = open_any(artifact).header.versions
        assert versions["device"] == "cpu"
        assert versions["precision"] == "float32"
        assert versions["threads"] == str(torch.get_num_threads())
        assert versions["torch"] == torch.__version__.partition("+")[0] or versions["torch"] == torch.__version__
        assert versions["instructions"]
    for artifact in (regions, ledger, random_round(tmp_path, dataset, 0)):
        assert not COMPUTING & open_any(artifact).header.versions.keys()


def test_a_gpu_is_recorded_with_its_libraries(monkeypatch):
    from stages.artifacts import computing

    monkeypatch.setattr("stages.runtime.devices.choose_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr("stages.runtime.devices.chosen_precision", lambda name, device: "bfloat16")
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr("torch.version.cuda", "12.8")
    monkeypatch.setattr("torch.backends.cudnn.version", lambda: 91002)
    found = computing.computed_with(ScoreSettings())
    assert found["device"] == "NVIDIA H100 80GB HBM3"
    assert (found["precision"], found["cuda"], found["cudnn"]) == ("bfloat16", "12.8", "91002")
    assert found["tf32"] in ("on", "off")
    assert computing.computed_otherwise(found, "cuda", "bfloat16") == []
    assert computing.computed_otherwise(found, "cpu", "auto") == [
        "it was computed on NVIDIA H100 80GB HBM3, not on cpu"
    ]


def test_what_it_ran_with_is_no_content(world, tmp_path, monkeypatch):
    _, dataset, _, _, model = world
    once = open_any(score.run(dataset, tmp_path / "s.h5", ScoreSettings(), model)).header
    other = {"device": "another", "precision": "float32"}
    monkeypatch.setattr("stages.artifacts.request.computed_with", lambda settings: other)
    again = open_any(score.run(dataset, tmp_path / "s2.h5", ScoreSettings(), model)).header
    assert again.versions["device"] == "another"
    assert again.digest == once.digest


@pytest.fixture
def reduced(world, tmp_path):
    """Scores computed in bfloat16."""
    _, dataset, _, _, model = world
    return score.run(dataset, tmp_path / "s.h5", ScoreSettings(precision="bfloat16", device="cpu"), model)


def test_another_precision_is_reported_and_stale_only_on_request(world, reduced, capsys):
    _, dataset, _, _, model = world
    before = reduced.read_bytes()
    capsys.readouterr()
    score.run(dataset, reduced, ScoreSettings(), model)
    assert capsys.readouterr().out == (
        f"{reduced} is up to date; it was computed in bfloat16, not in float32. Pass --same-device to rebuild it\n"
    )
    for precision in ("auto", "bfloat16"):  # auto: whatever it is
        score.run(dataset, reduced, ScoreSettings(precision=precision, same_device=True), model)
        assert capsys.readouterr().out == f"{reduced} is up to date\n"
    assert reduced.read_bytes() == before
    score.run(dataset, reduced, ScoreSettings(same_device=True), model)
    assert "rebuilding" in (told := capsys.readouterr().out)
    assert "it was computed in bfloat16, not in float32" in told
    assert open_any(reduced).header.versions["precision"] == "float32"


def test_verify_reports_another_device_and_precision(reduced):
    def verify(*words: str):
        return CliRunner().invoke(app, ["verify", str(reduced), *words])

    assert "undamaged and up to date" in verify().output
    assert "undamaged and up to date" in verify("--device", "cpu", "--precision", "bfloat16", "--same-device").output
    told = verify("--device", "cuda", "--precision", "float32")
    assert told.exit_code == 0
    assert "it was computed on cpu, not on cuda; it was computed in bfloat16, not in float32" in told.output
    refused = CliRunner().invoke(app, ["verify", str(reduced), "--device", "cuda", "--same-device"])
    assert refused.exit_code != 0
    assert refused.exception.faults == [
        f"{reduced} is stale: it was computed on cpu, not on cuda. Run the stage again with --same-device."
    ]


def test_shards_of_another_precision_are_not_reused(world):
    _, dataset, _, _, _ = world
    settings = ScoreSettings(device="cpu")
    request = Request("score", "scores", dataset.with_name("s.h5"), settings, {})
    reduced = replace(request, settings=ScoreSettings(device="cpu", precision="bfloat16"))
    assert request.key() != reduced.key()
    assert request.key() == replace(request, settings=ScoreSettings(device="cpu", batch=2)).key()


def test_artifacts_of_earlier_versions_are_fresh_unless_asked(tmp_path, monkeypatch):
    shutil.copytree(BEFORE, tmp_path / "before")
    monkeypatch.chdir(tmp_path / "before")
    words = ["score", "dataset.h5", "--model", "model.safetensors", "-o", "scores-pixels.h5"]
    told = CliRunner().invoke(app, words)
    assert "scores-pixels.h5 is up to date; it was computed in an unrecorded precision, not in float32" in told.output
    assert verify_one(Path("scores-pixels.h5"))[0] == []
    told = CliRunner().invoke(app, [*words, "--device", "cpu", "--same-device"])
    assert "rebuilding scores-pixels.h5: it was computed on an unrecorded device, not on cpu" in told.output
    assert Model("model.safetensors").header.versions["torch"]
