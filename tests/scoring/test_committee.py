"""Committees of dropout passes for pixels, regions and images: by their definition, one image after the other."""

import numpy as np
import pytest
import torch
from worlds import random_masks, write_dataset, write_network, write_superpixels

from stages.artifacts.dataset import Dataset
from stages.artifacts.model import Model
from stages.artifacts.opening import read_any_header
from stages.artifacts.scores import Scores
from stages.artifacts.superpixels import Superpixels
from stages.commands import score
from stages.networks.dropout import dropout_modules
from stages.networks.predictor import load_predictor
from stages.runtime.errors import BadInput
from stages.runtime.parts import MEASURES
from stages.runtime.randomness import torch_seed
from stages.scoring.measuring import measure_of_passes, plain_measure
from stages.settings.score import ScoreSettings

PASSES = [part.name for part in MEASURES.parts() if part.facts["passes"]]
MEMBERS = 3


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("committee")
    dataset = write_dataset(folder / "d.h5", random_masks(["a", "b", "c"], (32, 40), 3, void=0), 3)
    model = write_network(folder / "m.safetensors", dataset, aspp_dropout=0.7)
    return {"folder": folder, "dataset": dataset, "model": model, "base": write_superpixels(folder, dataset)}


def scored(world, name="s.h5", **values):
    inputs = {"superpixels": world["base"]} if values.get("unit") == "region" else {}
    settings = ScoreSettings.load({"committee": MEMBERS, "device": "cpu"} | values)
    return Scores(score.run(world["dataset"], world["folder"] / name, settings, world["model"], force=True, **inputs))


def passes_over(world, image, seed=0):
    """Logits (1,C,H,W) of each pass over an image, by its own seeds."""
    predictor = load_predictor(Model(world["model"]), "last", torch.device("cpu"), "float32")
    for module in dropout_modules(predictor.network):
        module.train()
    with Dataset(world["dataset"]) as data:
        pixels = torch.from_numpy(data.image(image)).permute(2, 0, 1)[None]
    found = []
    for member in range(MEMBERS):
        torch.manual_seed(torch_seed(seed, "committee", member, image))
        found.append(predictor.logits(pixels))
    return found


@pytest.mark.parametrize("measure", ["entropy", *PASSES])
def test_pixels_regions_and_images_score_the_same_maps(world, measure):
    pixels, images = scored(world, measure=measure), scored(world, measure=measure, unit="image")
    regions, base = scored(world, measure=measure, unit="region"), Superpixels(world["base"])
    for number, image in enumerate(pixels.ids):
        found = passes_over(world, image)
        if measure in PASSES:
            expected = measure_of_passes(measure, found)[0].numpy()
        else:
            expected = torch.stack([plain_measure(measure)(logits) for logits in found]).mean(0)[0].numpy()
        np.testing.assert_allclose(pixels.map(image), expected, atol=1e-6)
        assert images.image_scores()[number] == pytest.approx(expected.mean(), abs=1e-6)
        labels, rows = base.labels(image), base.rows[image]
        means = np.bincount(labels.ravel(), expected.ravel()) / np.bincount(labels.ravel())
        np.testing.assert_allclose(regions.region_scores()[rows], means, atol=1e-6)
        mean = torch.stack([logits.softmax(1) for logits in found]).mean(0)[0].argmax(0).numpy()
        votes = np.stack([np.bincount(labels[mean == c], minlength=labels.max() + 1) for c in range(3)])
        assert regions.read("regions/predicted")[rows].tolist() == votes.argmax(0).tolist()


def test_passes_differ_and_seeds_do(world):
    first, *others = passes_over(world, "a")
    assert all(not torch.equal(first, other) for other in others)
    assert scored(world, measure="bald").map("a").max() > 1e-4
    digests = [
        read_any_header(scored(world, f"{name}.h5", measure="bald", **own).path).digest
        for name, own in (("0", {}), ("again", {"batch": 1}), ("1", {"seed": 1}))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_an_image_scores_alike_whatever_else_is_scored(world, tmp_path):
    with Dataset(world["dataset"]) as data:
        masks = {image: data.mask(image) for image in ("b", "c")}
        images = {image: data.image(image) for image in ("b", "c")}
    fewer = world | {"dataset": write_dataset(tmp_path / "d.h5", masks, 3, images=images), "folder": tmp_path}
    assert np.array_equal(scored(fewer, measure="bald").map("c"), scored(world, measure="bald").map("c"))


@pytest.mark.parametrize("balance", ["regions", "pixels", "probability"])
def test_class_balance_and_best_pixels_of_regions(world, balance):
    """A hard vote counts whole passes, so that its best pixel is one that passes voted for."""
    values = {"unit": "region", "class_balance": balance, "best_pixel": True}
    votes = scored(world, measure="margin", vote="hard", votes_per_pass=200, **values)
    assert (votes.region_scores() >= 0).all()
    assert votes.read("classes/share").sum() == pytest.approx(1)
    maps = scored(world, "m.h5", measure="margin", vote="hard", votes_per_pass=200)
    base, (y, x) = Superpixels(world["base"]), votes.best_pixels()
    for image in base.ids:
        labels, scores = base.labels(image), maps.map(image)
        for label in range(base.number(image)):
            row = base.rows[image].start + label
            assert labels[y[row], x[row]] == label
            assert scores[y[row], x[row]] == scores[labels == label].max()


@pytest.mark.parametrize("measure", ["margin", "bald"])
def test_a_network_without_dropout_has_no_committee(world, measure, tmp_path):
    none = {"aspp_dropout": 0.0, "decoder_dropouts": (0.0, 0.0)}
    other = world | {"model": write_network(tmp_path / "m.safetensors", world["dataset"], **none)}
    told = r"its network has no dropout, which a committee needs\. Use a measure of one pass\.$"
    with pytest.raises(BadInput, match=told):
        scored(other, measure=measure)


@pytest.mark.parametrize("measure", ["margin", "bald"])
def test_a_classifier_of_images_has_no_committee(world, measure, tmp_path):
    model = write_network(tmp_path / "c.safetensors", world["dataset"], of_sets=False, architecture="classifier")
    told = (
        r"has no committee\. Use a measure of one pass \(bvsb, entropy, least-confidence, margin, "
        r"one-vs-rest-entropy\) with --committee "
        r"0\.$"
    )
    with pytest.raises(BadInput, match=told):
        scored(world | {"model": model}, measure=measure, unit="image")
