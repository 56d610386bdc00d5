"""Features of pixels: what the last layer of any architecture reads."""

import numpy as np
import pytest
import torch
from torch import nn
from worlds import random_masks, write_dataset, write_network, write_superpixels

from stages.artifacts.dataset import Dataset
from stages.artifacts.model import Model
from stages.artifacts.scores import Scores
from stages.commands import score
from stages.networks.feature_tap import FeatureTap
from stages.networks.predictor import Predictor, load_predictor
from stages.runtime.errors import BadInput
from stages.settings.score import ScoreSettings

SIZE = (40, 56)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tap")
    dataset = write_dataset(folder / "d.h5", random_masks(["a", "b"], SIZE, 3, void=0), 3)
    return folder, dataset, write_network(folder / "n.safetensors", dataset)


def test_they_are_the_input_of_the_classifier_at_length_1(world):
    _, dataset, path = world
    predictor = load_predictor(Model(path), "last", torch.device("cpu"), "float32")
    tap = FeatureTap(predictor, 3, 64)
    with Dataset(dataset) as data:
        images = torch.from_numpy(np.stack([data.image(name) for name in ("a", "b")])).permute(0, 3, 1, 2)
    predictor.coarse_logits(images)
    found = tap.taken(SIZE)
    with torch.inference_mode():
        expected = nn.functional.normalize(predictor.network.features(predictor.prepared(images)), dim=1)
    assert found.shape == (2, 16, 10, 14)
    torch.testing.assert_close(found, expected[..., :10, :14], atol=1e-5, rtol=1e-4)
    with pytest.raises(BadInput, match=r"reads no map of features\. Omit --keep-features"):
        tap.taken(SIZE)  # nothing passed since


def test_a_projection_is_always_the_same_and_nearly_keeps_distances():
    network = nn.Sequential(nn.Conv2d(64, 3, 1))
    taps = [FeatureTap(Predictor(network, (0.5,), (0.5,), torch.device("cpu")), 3, 32) for _ in range(2)]
    features = nn.functional.normalize(torch.randn(1, 64, 5, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    first, second = (tap.projected(features) for tap in taps)
    assert torch.equal(first, second)
    before, after = (torch.cdist(each.flatten(2)[0].T, each.flatten(2)[0].T) for each in (features, first))
    ratio = (after / before)[before > 0]
    assert ratio.mean() == pytest.approx(1, abs=0.1)
    assert ratio.min() > 0.5


def test_kept_features_of_pixels_and_regions(world):
    folder, dataset, model = world
    settings = {"keep_features": True, "feature_size": 4, "device": "cpu"}
    pixels = Scores(score.run(dataset, folder / "p.h5", ScoreSettings(**settings), model))
    maps = pixels.read("features/a")
    assert maps.shape == (4, 10, 14)
    found = pixels.pixel_features("a", np.array([0, 5 * 56 + 9]))  # (0,0) and (5,9) of a map at a quarter of the size
    assert (found == maps[:, [0, 1], [0, 2]].T).all()
    plain = score.run(dataset, folder / "plain.h5", ScoreSettings(device="cpu"), model)
    assert (Scores(plain).map("a") == pixels.map("a")).all()
    base = write_superpixels(folder, dataset)
    regions = Scores(score.run(dataset, folder / "r.h5", ScoreSettings(unit="region", **settings), model, base))
    means = regions.region_features().astype(np.float32)
    assert means.shape == (len(regions.region_scores()), 4)
    first = maps[:, :2, :2].astype(np.float32).mean((1, 2))  # the square of 8 x 8 pixels at the top left
    assert means[0] == pytest.approx(first, abs=2e-3)
