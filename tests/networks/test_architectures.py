"""Architectures as parts: shipped ones cover all of segmentation-models-pytorch, those of a plug-in are recorded."""

import hashlib
from pathlib import Path

import pytest
import segmentation_models_pytorch
import torch
from plugins import loaded, train_again
from worlds import TINY, random_masks, random_round, write_dataset

from stages.artifacts.model import Model
from stages.commands import train
from stages.networks.architectures import smp
from stages.networks.build import build_network
from stages.networks.predictor import load_predictor
from stages.runtime.errors import BadInput
from stages.runtime.parts import ARCHITECTURES
from stages.settings.network import NetworkSettings
from stages.settings.train import TrainSettings

PLUG_IN = '''
"""A network of somebody else."""

from pydantic import Field

from stages.networks.architectures import architecture
from stages.settings.base import PartSettings


class PlainSettings(PartSettings):
    kernel: int = Field(1, ge=1, description="Side of the convolution.")


@architecture("plain", settings=PlainSettings)
def plain(settings, outputs):
    """One convolution on a feature map of a timm backbone."""
    import timm
    from torch import nn
    from torch.nn.functional import interpolate

    class Plain(nn.Module):
        pad_multiple = 32

        def __init__(self, kernel):
            super().__init__()
            self.backbone = timm.create_model(settings.backbone, features_only=True, out_indices=(2,))
            (channels,) = self.backbone.feature_info.channels()
            self.classifier = nn.Conv2d(channels, outputs, kernel, padding="same")

        def forward(self, images):
            return interpolate(self.classifier(self.backbone(images)[0]), images.shape[-2:], mode="bilinear")

    return Plain(settings.of_architecture.kernel)
'''
VALUES = {name: value for name, value in TINY.items() if name not in ("head_width", "low_level_width")} | {"epochs": 1}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("architectures")
    names = [f"i{number}" for number in range(4)]
    splits = dict(zip(names, ["train"] * 3 + ["val"], strict=True))
    dataset = write_dataset(folder / "d.h5", random_masks(names, (32, 32), 3), 3, splits)
    return dataset, random_round(folder, dataset, 0)


def test_every_network_of_smp_has_its_name():
    """Names are literal, so that asking for them imports no smp; two of smp's are networks of our own."""
    own = {part.name for part in ARCHITECTURES.parts() if part.function is not smp.smp}
    assert set(smp.NAMES) == set(segmentation_models_pytorch.MODEL_ARCHITECTURES_MAPPING) - own
    assert own & set(segmentation_models_pytorch.MODEL_ARCHITECTURES_MAPPING) == {"deeplabv3", "deeplabv3plus"}


def test_shipped_architectures():
    own = ["classifier", "deeplabv2", "deeplabv3", "deeplabv3plus", "fpn-dilated", "light", "linear", "lraspp"]
    assert ARCHITECTURES.names() == sorted([*own, *smp.NAMES])
    facts = {part.name: part.facts for part in ARCHITECTURES.parts()}
    assert [name for name in facts if facts[name]["support"]] == ["deeplabv3", "deeplabv3plus", "light", "lraspp"]
    assert [name for name in facts if facts[name]["predicts"] == "images"] == ["classifier"]


def test_an_architecture_of_a_plug_in_trains_predicts_and_is_recorded(world, tmp_path):
    dataset, ledger = world
    with loaded(tmp_path / "plain_network.py", PLUG_IN) as path:
        settings = TrainSettings.load({"architecture": "plain", "kernel": "3"}, offered=VALUES)
        model = Model(train.run(dataset, ledger, tmp_path / "m.safetensors", settings))
        assert model.attributes["network"] == {"architecture": "plain", "backbone": TINY["backbone"], "kernel": 3}
        recorded = model.header.inputs["plugin plain_network"]
        assert (recorded.file, recorded.digest) == (path.name, hashlib.sha256(path.read_bytes()).hexdigest())
        predictor = load_predictor(model, "last", torch.device("cpu"), "auto")
        assert predictor.network.classifier.kernel_size == (3, 3)
        assert predictor.logits(torch.zeros(1, 3, 40, 33, dtype=torch.uint8)).shape == (1, 3, 40, 33)
        again = TrainSettings.load({"architecture": "plain"}, offered=VALUES)
        with pytest.raises(BadInput, match=r"has another network\. To start from it, set kernel 3\."):
            train.run(dataset, ledger, tmp_path / "n.safetensors", again, model.path)
    with pytest.raises(BadInput, match=r"m.safetensors: Unknown architecture 'plain'\..*--plugin"):
        load_predictor(model, "last", torch.device("cpu"), "auto")


@pytest.mark.slow
def test_a_changed_plug_in_makes_the_model_stale(world, tmp_path, preloaded):
    path, output = tmp_path / "mine.py", tmp_path / "m.safetensors"
    path.write_text(PLUG_IN)
    values = VALUES | {"architecture": "plain"}
    assert "wrote" in train_again(preloaded, path, *world, output, **values)
    assert "is up to date" in train_again(preloaded, path, *world, output, **values)
    path.write_text(PLUG_IN + "\n# changed\n")
    assert "input plugin mine changed" in train_again(preloaded, path, *world, output, **values)


def test_a_plug_in_without_a_backbone_is_refused(tmp_path: Path):
    text = PLUG_IN.replace("self.backbone", "self.trunk")
    settings = {"architecture": "plain", "backbone": "test_resnet"}
    with loaded(tmp_path / "mine.py", text), pytest.raises(BadInput, match="no submodule 'backbone'"):
        build_network(NetworkSettings(**settings), 3)


def test_support_heads_are_refused_for_a_plug_in_that_does_not_declare_them(tmp_path: Path):
    settings = {"architecture": "plain", "backbone": "test_resnet"}
    with loaded(tmp_path / "mine.py", PLUG_IN), pytest.raises(BadInput, match="plain has no support heads"):
        build_network(NetworkSettings(**settings), 3, support=True)
