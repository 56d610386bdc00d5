"""Predictions that the stages of a round share: the network runs once, the bytes are those of running it each time."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from worlds import random_masks, region_round, write_dataset, write_network, write_superpixels

from stages.artifacts.dataset import Dataset
from stages.artifacts.model import Model
from stages.artifacts.opening import open_any
from stages.commands import extract_superpixels, pseudo_label, score
from stages.networks.kept import KeptTensors
from stages.networks.predictions import load_image_predictor
from stages.networks.predictor import Predictor, image_batches
from stages.runtime.errors import BadInput
from stages.settings.common import NetworkUse, PredictionSettings
from stages.settings.extract_superpixels import ExtractSettings
from stages.settings.pseudo_label import PseudoLabelSettings
from stages.settings.score import ScoreSettings

NAMES = [f"folder/{number}" for number in range(5)]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predictions")
    masks = random_masks(NAMES[:3], (33, 40), 3) | random_masks(NAMES[3:], (32, 48), 3)
    draw = np.random.default_rng(0)
    images = {name: draw.integers(0, 256, (*mask.shape, 3), dtype=np.uint8) for name, mask in masks.items()}
    dataset = write_dataset(folder / "d.h5", masks, 3, images=images)
    regions = write_superpixels(folder, dataset)
    ledger = region_round(folder, dataset, 0, regions)
    return folder, dataset, regions, ledger, write_network(folder / "m.safetensors", dataset)


@pytest.fixture
def passes(monkeypatch) -> list[int]:
    """The number of images of each pass of a network."""
    seen: list[int] = []
    run = Predictor.coarse_logits

    def counted(self, images):
        seen.append(len(images))
        return run(self, images)

    monkeypatch.setattr(Predictor, "coarse_logits", counted)
    return seen


def round_of(world, folder: Path, kept: str | None) -> list[str]:
    """Digests of merged regions, scores and sieved labels."""
    _, dataset, base, ledger, model = world
    folder.mkdir(exist_ok=True)
    adaptive = ExtractSettings(method="adaptive", workers=1, predictions=kept)
    scores = ScoreSettings(unit="region", measure="bvsb", predictions=kept)
    sieve = PseudoLabelSettings(predictions=kept)
    merged = extract_superpixels.run(dataset, folder / "r.h5", adaptive, base, model)
    scored = score.run(dataset, folder / "s.h5", scores, model, merged)
    sieved = pseudo_label.run(dataset, ledger, model, folder / "p.h5", sieve)
    return [open_any(path).header.digest for path in (merged, scored, sieved)]


def test_three_stages_run_the_network_once_and_write_the_same(world, tmp_path, passes, capsys):
    alone = round_of(world, tmp_path / "alone", None)
    assert sum(passes) == 2 * len(NAMES) + 3  # images with answers
    passes.clear()
    capsys.readouterr()
    assert round_of(world, tmp_path / "shared", str(tmp_path / "kept")) == alone
    assert sum(passes) == len(NAMES)
    assert len(list((tmp_path / "kept").iterdir())) == len(NAMES)
    assert f"keeping predictions in {tmp_path / 'kept'}: 0.0 MB per image" in capsys.readouterr().out


def test_pixels_and_coarser_grids_are_the_same(world, tmp_path):
    _, dataset, _, _, model = world
    for values in ({}, {"grid_scale": 0.5}, {"input_scale": 0.5, "precision": "bfloat16"}):
        kept = str(tmp_path / f"kept{len(list(tmp_path.iterdir()))}")
        digests = {
            open_any(score.run(dataset, tmp_path / "s.h5", settings, model, force=True)).header.digest
            for settings in (ScoreSettings(**values), *2 * [ScoreSettings(**values, predictions=kept)])
        }
        assert len(digests) == 1


@pytest.mark.parametrize("name", ["deeplabv2", "deeplabv3", "deeplabv3plus", "fpn-dilated", "lraspp", "unet"])
def test_kept_logits_are_those_of_the_network_bit_for_bit(world, tmp_path, name):
    _, dataset, *_ = world
    backbone = "resnet18" if name == "unet" else "test_efficientnet"
    network = {"architecture": name, "backbone": backbone}
    if name == "fpn-dilated":
        network["head_width"] = 64
    path = write_network(tmp_path / "m.safetensors", dataset, **network)
    with Dataset(dataset) as data:
        for scale in (1.0, 0.5):
            every = [
                load_image_predictor(Model(path), "last", NetworkUse(device="cpu"), seen, data)
                for folder in (None, str(tmp_path / "kept"), str(tmp_path / "kept"))
                for seen in [PredictionSettings(input_scale=scale, predictions=folder)]
            ]
            for batch in image_batches(data, NAMES, 2):
                computed, written, read = (each.logits(batch) for each in every)
                assert torch.equal(computed, written)
                assert torch.equal(computed, read)


def test_a_damaged_or_foreign_file_is_computed_again(world, tmp_path, passes, capsys):
    _, dataset, _, _, model = world
    kept = tmp_path / "kept"
    settings = ScoreSettings(predictions=str(kept))
    digest = open_any(score.run(dataset, tmp_path / "s.h5", settings, model)).header.digest
    flipped, torn, strange, swapped, other = sorted(kept.iterdir())
    content = bytearray(flipped.read_bytes())
    content[-5] ^= 1
    flipped.write_bytes(content)
    torn.write_bytes(torn.read_bytes()[:-100])
    strange.write_bytes(b"no predictions")
    swapped.write_bytes(other.read_bytes())
    passes.clear()
    capsys.readouterr()
    again = ScoreSettings(predictions=str(kept), batch=1)
    assert open_any(score.run(dataset, tmp_path / "s.h5", again, model, force=True)).header.digest == digest
    assert passes == [1] * 4
    assert "computing predictions again" in capsys.readouterr().out
    passes.clear()
    score.run(dataset, tmp_path / "s.h5", again, model, force=True)
    assert passes == []


def test_another_model_scale_or_precision_reads_none_of_it(world, tmp_path, passes):
    _, dataset, _, _, model = world
    kept = str(tmp_path / "kept")
    other = write_network(tmp_path / "other.safetensors", dataset, aspp_rates=(2,))
    for used, values in ((model, {}), (other, {}), (model, {"input_scale": 0.5}), (model, {"precision": "bfloat16"})):
        passes.clear()
        score.run(dataset, tmp_path / "s.h5", ScoreSettings(predictions=kept, **values), used, force=True)
        assert sum(passes) == len(NAMES)
    assert len(list(Path(kept).iterdir())) == len(NAMES)  # replaced, never piled up


def test_a_full_disk_keeps_nothing_and_fails_nothing(tmp_path, monkeypatch, capsys):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    kept = KeptTensors(tmp_path / "kept", "key", "predictions")
    for image in NAMES:
        kept.write(image, [torch.zeros(3, 4, 4)])
    assert list((tmp_path / "kept").iterdir()) == []
    assert capsys.readouterr().out.count("the disk is full") == 1


def test_a_file_is_no_folder_for_predictions(world, tmp_path):
    _, dataset, _, _, model = world
    with pytest.raises(BadInput, match=r"d\.h5 is a file\. Pass a folder for predictions\."):
        score.run(dataset, tmp_path / "s.h5", ScoreSettings(predictions=str(dataset)), model)
