"""Scores times the probability that the answer names a class."""

from math import log

import pytest
import torch
from worlds import random_masks, write_dataset, write_network, write_superpixels

from stages.artifacts.scores import Scores
from stages.commands import score
from stages.runtime.errors import BadInput
from stages.scoring.maps import scored
from stages.settings.score import ScoreSettings

VOID_HALF = torch.tensor([0.4, 0.1, 0.5]).log().view(1, 3, 1, 1)
"""Two classes and void: a margin of 1 - (0.8 - 0.2) = 0.4 between the classes, void 1/2."""


def margin_of(logits, outputs=2, **settings):
    return float(scored(logits, (1, 1), outputs, ScoreSettings(measure="margin", **settings))[1])


def test_the_measure_of_the_classes_times_the_chance_of_a_class():
    assert margin_of(VOID_HALF) == pytest.approx(0.4, abs=1e-6)
    assert margin_of(VOID_HALF, discount_void=True) == pytest.approx(0.2, abs=1e-6)


def test_void_that_is_kept_as_a_class_is_discounted_too():
    """1 - (0.5 - 0.4) times a half."""
    assert margin_of(VOID_HALF, 3, discount_void=True) == pytest.approx(0.45, abs=1e-6)


def test_extreme_void_gives_0_and_no_void_leaves_the_score():
    certain = torch.tensor([0.0, log(0.5), 1e4]).view(1, 3, 1, 1)
    assert margin_of(certain, discount_void=True) == 0
    assert margin_of(-certain.abs() * torch.tensor([0, 1, 1]).view(1, 3, 1, 1), discount_void=True) == pytest.approx(
        margin_of(-certain.abs() * torch.tensor([0, 1, 1]).view(1, 3, 1, 1))
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("void")
    dataset = write_dataset(folder / "d.h5", random_masks(["a", "b"], (24, 32), 3), 3)
    knows = write_network(folder / "void.safetensors", dataset, void=True)
    return folder, dataset, write_superpixels(folder, dataset), knows, write_network(folder / "n.safetensors", dataset)


@pytest.mark.parametrize("settings", [{}, {"committee": 2}, {"measure": "bald", "committee": 2}])
@pytest.mark.parametrize("unit", ["pixel", "region", "image"])
def test_no_score_rises_in_any_unit(world, unit, settings):
    folder, dataset, base, knows, _ = world
    found = []
    for discount in (False, True):
        values = ScoreSettings(unit=unit, discount_void=discount, device="cpu", **settings)
        regions = base if unit == "region" else None
        scores = Scores(score.run(dataset, folder / "s.h5", values, knows, regions, force=True))
        found.append(scores.map("a") if unit == "pixel" else scores.read(f"{unit}s/score"))
    assert (found[1] <= found[0] + 1e-6).all()
    assert (found[1] < found[0]).any()


def test_refusals(world):
    folder, dataset, _, _, plain = world
    with pytest.raises(
        BadInput, match=r"did not learn void, which --discount-void needs\. Omit it, or train with --learn-void\.$"
    ):
        score.run(dataset, folder / "s.h5", ScoreSettings(discount_void=True), plain)
    with pytest.raises(BadInput, match="measure contradiction scores answers; set discount_void false"):
        ScoreSettings.load({"measure": "contradiction", "discount_void": True})
