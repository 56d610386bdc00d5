"""The recipes of PixelPick and MADBAL have the settings of the published rows (specs 2.2 and 3, 4.5)."""

import pytest

from stages.recipes.profile import load_profile, rounds_of
from stages.recipes.recipe import load_recipe
from stages.recipes.resolve import step_settings
from stages.regions.cutters.seeds import SeedsSettings, fitting_blocks

ADAM = {"optimiser": "adam", "head_lr": 5e-4, "backbone_lr": 5e-5, "weight_decay": 2e-4, "epochs": 50, "batch": 4}
VOC = {"optimiser": "sgd", "head_lr": 1e-2, "backbone_lr": 1e-3, "epochs": 50, "batch": 10, "crop": [320, 320]}
MNV2 = {"architecture": "deeplabv3plus", "backbone": "mobilenetv2_100.ra_in1k", "output_stride": 16}
FPN = {"architecture": "fpn-dilated", "backbone": "resnet50.tv_in1k", "output_stride": 8, "align_corners": False}
SGD = {"optimiser": "sgd", "head_lr": 1e-2, "backbone_lr": 1e-2, "weight_decay": 1e-4, "crop": [768, 768]}
V3 = {"architecture": "deeplabv3", "backbone": "resnet50.tv_in1k", "output_stride": 8, "aspp_rates": [12, 24, 36]}
LRASPP = {"architecture": "lraspp", "backbone": "mobilenetv3_large_100.ra_in1k", "align_corners": False}
SPANS = {  # epochs, batch, validate_every and patience of phase I; epochs, batch and validate_every of phase II
    "madbal": (MNV2, (149, 10, 3, 15), (30, 12, 3)),
    "madbal-reference": (MNV2, (149, 10, 3, 16), (30, 12, 3)),
    "madbal-resnet50": (V3, (149, 6, 2, 15), (30, 10, 3)),
    "madbal-resnet50-reference": (V3, (149, 6, 2, 16), (30, 10, 3)),
    "madbal-mobilenetv3": (LRASPP, (99, 10, 3, 25), (35, 16, 2)),
    "madbal-mobilenetv3-reference": (LRASPP, (99, 10, 3, 26), (35, 16, 2)),
}


def settings_of(recipe, profile, name, rounds=None):
    found = load_recipe(recipe)
    step = next(step for step in found.steps if step.name == name and rounds in (None, step.rounds))
    return step_settings(found, load_profile(profile), step).flat()


def assert_has(found, expected):
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    "recipe, network",
    [("pixelpick", MNV2), ("pixelpick-fpn", FPN), ("pixelpick-fpn-reference", FPN), ("full-fpn", FPN)],
)
def test_pixelpick(recipe, network):
    assert_has(settings_of(recipe, "camvid", "model"), network | ADAM | {"schedule": "milestones", "crop": [360, 480]})
    assert_has(settings_of(recipe, "cityscapes", "model"), network | ADAM | {"schedule": "poly", "crop": [256, 512]})
    decay = 5e-4 if network is MNV2 else 1e-4
    assert_has(settings_of(recipe, "voc2012", "model"), network | VOC | {"schedule": "poly", "weight_decay": decay})


@pytest.mark.parametrize("profile, budget", [("camvid", 10), ("cityscapes", 10), ("voc2012", 5)])
def test_pixelpick_queries(profile, budget):
    for rounds in ("first", "later"):
        assert settings_of("pixelpick-fpn", profile, "queries", rounds)["budget"] == budget
    assert rounds_of(load_recipe("pixelpick-fpn"), load_profile(profile)) == 10


@pytest.mark.parametrize("profile", ["cityscapes", "voc2012"])
@pytest.mark.parametrize("recipe", SPANS)
def test_madbal(recipe, profile):
    network, first, second = SPANS[recipe]
    spans = dict(zip(("epochs", "batch", "validate_every", "patience"), first, strict=True))
    assert_has(settings_of(recipe, profile, "model"), network | SGD | spans | {"schedule": "poly"})
    spans = dict(zip(("epochs", "batch", "validate_every"), second, strict=True))
    assert_has(settings_of(recipe, profile, "support"), network | spans | {"schedule": "constant", "patience": 0})
    if recipe in ("madbal-resnet50", "madbal-mobilenetv3"):
        full = settings_of(f"{recipe}-full", profile, "model")
        assert full == settings_of(recipe, profile, "model")


@pytest.mark.parametrize("profile, rounds, budget", [("cityscapes", 5, 20), ("voc2012", 4, 10)])
def test_madbal_queries(profile, rounds, budget):
    for name in SPANS:
        assert rounds_of(load_recipe(name), load_profile(profile)) == rounds
        assert settings_of(name, profile, "queries", "later")["budget"] == budget


def test_full_supervision_buys_every_mask_once():
    for name in ("full", "full-fpn", "madbal-full", "madbal-resnet50-full", "madbal-mobilenetv3-full"):
        for profile in ("camvid", "cityscapes", "voc2012", "scenes"):
            assert rounds_of(load_recipe(name), load_profile(profile)) == 1
            assert settings_of(name, profile, "scores")["unit"] == "image"
            assert_has(settings_of(name, profile, "queries"), {"rule": "top", "budget": 0})


def test_what_only_the_reference_of_madbal_repeats():
    """The public code scores with its best support heads and stops after one validation more than configured."""
    own, published = ({}, {})
    for recipe, found in (("madbal", own), ("madbal-reference", published)):
        found["scores"] = settings_of(recipe, "cityscapes", "scores", "later")["checkpoint"]
        found["start"] = settings_of(recipe, "cityscapes", "support")["checkpoint"]
        found["patience"] = settings_of(recipe, "cityscapes", "model")["patience"]
        found["bicubic"] = settings_of(recipe, "cityscapes", "clusters")["bicubic"]
        found["remainder"] = settings_of(recipe, "cityscapes", "queries", "later")["remainder"]
    assert own == {"scores": "last", "start": "last", "patience": 15, "bicubic": "keys", "remainder": "largest"}
    assert published == {
        "scores": "best", "start": "best", "patience": 16, "bicubic": "opencv", "remainder": "reference",
    }  # fmt: skip


@pytest.mark.parametrize(
    "profile, size, regions",
    [("cityscapes", (256, 512), 512), ("camvid", (360, 480), 660), ("voc2012", (300, 400), 108)],
)
def test_number_of_superpixels(profile, size, regions):
    found = settings_of("madbal", profile, "base")
    own = SeedsSettings(**{name: found[name] for name in SeedsSettings.model_fields})
    assert fitting_blocks(*size, own.number(*size), own.levels).slots == regions


def test_five_levels_would_cut_native_camvid_into_a_quarter_of_its_regions():
    own = SeedsSettings(region_pixels=256, levels=5)
    assert own.number(360, 480) == 675
    assert fitting_blocks(360, 480, 675, 5).slots == 165
