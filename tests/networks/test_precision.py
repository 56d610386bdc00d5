"""In bfloat16 the last layer of a network, and all that follows it, still run in float32."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models.segmentation.deeplabv3 import DeepLabHead
from torchvision.models.segmentation.lraspp import LRASPPHead
from worlds import random_masks, write_dataset, write_network

from stages.artifacts.model import Model
from stages.artifacts.scores import Scores
from stages.commands import score
from stages.networks.build import build_network
from stages.networks.discriminator import Discriminator
from stages.networks.predictor import load_predictor
from stages.runtime.parts import ARCHITECTURES
from stages.settings.evaluate import EvaluateSettings
from stages.settings.extract_superpixels import ExtractSettings
from stages.settings.network import NetworkSettings
from stages.settings.pseudo_label import PseudoLabelSettings
from stages.settings.score import ScoreSettings
from stages.settings.train import TrainSettings

CLASSES = 7
SIDE_MAPS = 3
BACKBONES = {"classifier": "test_efficientnet", "dpt": "tu-test_vit"}
OWN = {"deeplabv2", "deeplabv3", "deeplabv3plus", "fpn-dilated", "lraspp"}
# Channels of what is upsampled behind a last layer: logits, those of all sides, their mixing, lossiness
OUTPUTS = {CLASSES, SIDE_MAPS * CLASSES, SIDE_MAPS, 2}


class Upsampled(TorchDispatchMode):
    """Remembers the type of all maps of logits that are resized."""

    def __init__(self):
        super().__init__()
        self.types: list[torch.dtype] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if "upsample" in str(function) and args[0].shape[1] in OUTPUTS:
            self.types.append(args[0].dtype)
        return function(*args, **(kwargs or {}))


def network_of(name: str, support: bool = False):
    backbone = BACKBONES.get(name, "test_efficientnet" if name in OWN else "resnet18")
    settings = NetworkSettings.load({"architecture": name, "backbone": backbone}, offered={"head_width": 64})
    torch.manual_seed(0)
    return build_network(settings, CLASSES, support).eval()


@pytest.mark.parametrize("name", ARCHITECTURES.names())
def test_logits_are_computed_and_resized_in_float32(name):
    network, size = network_of(name), 128 if name == "pan" else 64  # its pyramid halves the last map three times
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), Upsampled() as upsampled:
        logits = network(torch.rand(1, 3, size, size))
    assert logits.dtype == torch.float32
    assert set(upsampled.types) <= {torch.float32}
    assert not torch.equal(logits, logits.bfloat16().float())


@pytest.mark.parametrize("name", [part.name for part in ARCHITECTURES.parts() if part.facts["support"]])
def test_maps_of_support_heads_are_resized_in_float32(name):
    network = network_of(name, support=True)
    size = (49, 66)  # odd, so that the coarser sides are cut and resized
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), Upsampled() as upsampled:
        maps = network.support(network.inner(torch.rand(1, 3, *size)), size)
    assert set(upsampled.types) == {torch.float32}
    assert {each.dtype for each in maps} == {torch.float32}
    assert not torch.equal(maps.sides, maps.sides.bfloat16().float())


def test_scores_of_a_discriminator_are_float32():
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        scores, _ = Discriminator(3).eval()(torch.rand(2, 6, 32, 32))
    assert scores.dtype == torch.float32


@pytest.mark.parametrize("name", [*sorted(OWN - {"fpn-dilated"}), "unet", "fpn", "dpt"])
def test_float32_computes_what_it_did_bit_for_bit(name):
    network, images = network_of(name), torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        if name in ("unet", "fpn", "dpt"):
            expected = network.model(images)
        else:
            maps = network.backbone(images)
            if name == "deeplabv2":
                coarse = network.classifier(*maps)
            elif name == "deeplabv3":
                coarse = DeepLabHead.forward(network.classifier, *maps)
            elif name == "lraspp":
                coarse = LRASPPHead.forward(network.classifier, {"low": maps[0], "high": maps[1]})
            else:
                coarse = network.classifier(network.features(images))
            expected = interpolate(coarse, (64, 64), mode="bilinear", align_corners=network.align_corners)
        assert torch.equal(network(images), expected)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("precision")
    masks = random_masks(["a"], (96, 128), CLASSES)
    pixels = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    dataset = write_dataset(folder / "d.h5", masks, CLASSES, images={"a": pixels})
    return folder, dataset, write_network(folder / "m.safetensors", dataset)


def scores_in(world, precision: str) -> np.ndarray:
    folder, dataset, model = world
    settings = ScoreSettings(precision=precision, device="cpu")
    return Scores(score.run(dataset, folder / f"{precision}.h5", settings, model)).map("a")


def highest(scores: np.ndarray) -> list[int]:
    return np.argsort(-scores, axis=None, kind="stable")[:10].tolist()


def test_scores_in_bfloat16_do_not_tie(world):
    scores = scores_in(world, "bfloat16")
    assert (scores == scores.max()).sum() == 1
    assert len(np.unique(scores)) > 0.9 * len(np.unique(scores_in(world, "float32")))


def test_bfloat16_chooses_the_pixels_that_its_features_choose_in_float32(world):
    """Convolutions before the last layer explain all of the difference: from their output on, float32 agrees."""
    _, dataset, model = world
    predictor = load_predictor(Model(model), "last", torch.device("cpu"), "bfloat16")
    from stages.artifacts.dataset import Dataset
    from stages.scoring.measuring import plain_measure

    with Dataset(dataset) as data:
        pixels = torch.from_numpy(data.image("a")).permute(2, 0, 1)[None]
    images = predictor.prepared(pixels)
    with torch.inference_mode():
        with torch.autocast("cpu", torch.bfloat16):
            features = predictor.network.features(images)
        assert features.dtype == torch.bfloat16
        coarse = predictor.network.classifier(features.float())
        logits = interpolate(coarse, (96, 128), mode="bilinear", align_corners=True)
        expected = plain_measure("margin")(logits)[0].numpy()
    assert highest(scores_in(world, "bfloat16")) == highest(expected)


def test_stages_that_decide_between_pixels_run_in_float32_unless_told_otherwise():
    assert ScoreSettings().network.use.precision == "float32"
    assert ExtractSettings(method="adaptive").merge.use.precision == "float32"
    assert PseudoLabelSettings().use.precision == "float32"
    assert EvaluateSettings().use.precision == "float32"
    assert TrainSettings().execution.precision == "auto"
