"""What the recipes take from the public code: what is trained, the weights, the start of self-training, the budgets."""

from types import SimpleNamespace

import pytest
import torch
from als4gan_support import RATIO, ROUNDS, SHARES, answered, history, names, settings_of
from timm.models import get_pretrained_cfg

from stages.artifacts.dataset import Dataset
from stages.artifacts.model import Model
from stages.commands import prepare, score, select, train
from stages.datasets.description import load_description
from stages.datasets.division import divide
from stages.recipes.plan import read_plan, rounds_of_budget
from stages.runtime.errors import BadInput
from stages.selecting.image_budget import counted_images, whole_budget
from stages.settings.prepare import PrepareSettings
from stages.settings.train import TrainSettings


def planned(recipe, step, profile=None):
    """The flat settings of a step under a profile."""
    plan = read_plan(recipe, profile)
    (found,) = (each for each in plan.recipe.steps if each.name == step and each.rounds != "first")
    return plan.settings(found).flat()


def test_the_settings_of_the_segmentation_network_do_not_reach_the_classifier():
    told = ("norm_momentum", "freeze_norm", "learn_norm", "flip", "gate", "backbone")
    expected = {
        ("als4gan", "model"): (None, True, False, 0.5, 0.6, "resnet101.tv_in1k"),
        ("als4gan-reference", "model"): (0.999, False, False, 0.0, 0.8, "resnet101.tv_in1k"),
        ("als4gan", "classifier"): (None, False, True, 0.5, None, "resnet50.tv_in1k"),
        ("als4gan-reference", "classifier"): (None, False, True, 0.5, None, "resnet50.tv_in1k"),
    }
    for place, values in expected.items():
        found = planned(*place)
        assert tuple(found.get(name) for name in told) == values, place
    assert [planned(name, "classifier")["reference_head"] for name in ("als4gan", "als4gan-reference")] == [False, True]


def test_weights_are_those_of_torchvision():
    for name in ("resnet50.tv_in1k", "resnet101.tv_in1k"):
        assert get_pretrained_cfg(name).tag == "tv_in1k"
        assert get_pretrained_cfg(name.partition(".")[0]).tag != "tv_in1k"  # so the tag must be given


def test_rates_and_gates_by_dataset():
    told = ("discriminator_lr", "gate", "self_training_from", "batch", "crop")
    assert [planned("s4gan-random", "model", "cityscapes")[name] for name in told] == [1e-5, 0.7, 1001, 10, [256, 512]]
    for profile in ("voc2012", "deepglobe"):
        assert [planned("s4gan-random", "model", profile)[name] for name in told] == [1e-4, 0.6, 1001, 10, [320, 320]]


def test_self_training_begins_when_the_public_code_begins():
    """There iterations count from 0 and must be above 1000, so 1001 steps come before."""
    start = planned("als4gan", "model")["self_training_from"]
    steps = range(2000)
    assert [step >= start for step in steps] == [step > 1000 for step in steps]


@pytest.mark.slow
def test_on_scenes_predictions_are_accepted(tmp_path):
    """With 6 of the 10 epochs of the profile; neither all predictions nor none."""
    dataset = prepare.run("scenes", None, tmp_path / "d.h5", PrepareSettings())
    masks = answered(tmp_path, dataset, "masks", image_answer="mask", ratio=0.125)
    own = TrainSettings.load({"epochs": 6, "device": "cpu"}, offered=planned("s4gan-random", "model", "scenes"))
    rows = history(train.run(dataset, masks, tmp_path / "m.safetensors", own))
    learned = [row["accepted"] for row in rows if row["step"] > own.of_objective.self_training_from]
    assert len(learned) == 4
    assert 0 < max(learned) < 1
    assert rows[-1]["self_training"] > 0


@pytest.mark.parametrize("recipe, follows", [("als4gan", False), ("als4gan-reference", True)])
def test_scale_and_shift_are_not_learned_but_those_of_the_classifier(world, tmp_path, recipe, follows):
    """Without weights they are 1 and 0, which weight decay alone would change; the convolutions learn."""

    def norms(path):
        weights = Model(path).weights("last")
        places = [name.removesuffix("running_mean") for name in weights if name.endswith("running_mean")]
        scales, shifts, means = (
            [weights[place + end] for place in places] for end in ("weight", "bias", "running_mean")
        )
        assert len(places) > 10
        scaled = sum(not torch.equal(each, torch.ones_like(each)) for each in scales)
        shifted = sum(not torch.equal(each, torch.zeros_like(each)) for each in shifts)
        return scaled, shifted, sum(bool(each.any()) for each in means), len(places)

    model = train.run(
        world["dataset"], world["masks"], tmp_path / "m.safetensors", settings_of("model", recipe=recipe, epochs=1)
    )
    scaled, shifted, moved, layers = norms(model)
    assert (scaled, shifted, moved) == (0, 0, layers if follows else 0)
    assert min(norms(world["classifier0"])[:2]) > 30
    still = settings_of("model", recipe=recipe, epochs=1, backbone_lr=0.0, head_lr=0.0)
    before = Model(train.run(world["dataset"], world["masks"], tmp_path / "s.safetensors", still)).weights("last")
    after = Model(model).weights("last")
    kernels = [name for name, value in after.items() if value.ndim == 4]
    assert all(not torch.equal(before[name], after[name]) for name in kernels)


# --- budgets ----------------------------------------------------------------------------------------------------------


def pools(name, images):
    """The splits of a shipped description, as far as counting needs them; ``images`` per class of images."""
    labels = {f"{label}-{number}": label for label, count in enumerate(images) for number in range(count)}
    splits = divide(labels, load_description(name).division.shares, 0)
    return SimpleNamespace(ids=lambda split: [image for image, own in splits.items() if own == split])


@pytest.mark.parametrize(
    "name, images, counted, expected",
    [
        ("ucm-dlrsd", [100] * 21, 1680, {0.02: (34, 3, 2, 17), 0.05: (84, 8, 4, 21), 0.125: (210, 21, 11, 20)}),
        ("deepglobe", [300, 250, 200, 53], 642, {0.02: (13, 1, 1, 13), 0.05: (33, 3, 2, 17), 0.125: (81, 8, 4, 21)}),
    ],
)
def test_ratios_buy_as_many_masks_as_published(name, images, counted, expected):
    """The table of section 2.1 with alpha 0.1 and beta 0.5, for 1679 and 642 images; a tenth of them is val here."""
    data = pools(name, images)
    for ratio, (budget, seed, query, rounds) in expected.items():
        for recipe in ("als4gan", "s4gan-random"):
            plan = read_plan(recipe, name, [f"select.ratio={ratio}"])
            step = next(each for each in plan.recipe.steps if each.name == "queries")
            chosen = plan.settings(step).settled("queries", unit="image").image
            assert counted_images(data, data.ids("train"), chosen) == counted
            found = whole_budget(counted, chosen, len(data.ids("train")))
            assert found.budget == budget
            if recipe == "als4gan":
                assert (found.seed, found.query, found.rounds) == (seed, query, rounds)


def test_the_ratio_may_count_other_splits_too(world, tmp_path):
    """0.35 of 20 images are 7, of 22 they are 8."""
    more = {"ratio_splits": ("train", "val")}
    scores = score.run(world["dataset"], tmp_path / "s.h5", settings_of("scores"))
    one = settings_of("queries", 0, rule="uniform", image_answer="mask", seed_share=None, **more)
    queries = select.run(world["dataset"], scores, tmp_path / "q.h5", one)
    assert len(names(queries)) == 8
    assert {name[0] for name in names(queries)} == {"t"}
    chosen = [f"select.{name}={value}" for name, value in (RATIO | SHARES).items()]
    with Dataset(world["dataset"]) as data:
        rounds = [
            rounds_of_budget(read_plan("als4gan", None, [*chosen, f"select.ratio-splits={splits}"]), data)
            for splits in ("train", "train,val")
        ]
    assert rounds == [ROUNDS, 5]  # 4 and then 2 a round for 8
    for splits, told in ((("train", "none"), r"has no images in split 'none'"), (("train", "val"), "exceed the 20 of")):
        with pytest.raises(BadInput, match=told):
            select.run(
                world["dataset"],
                scores,
                tmp_path / "r.h5",
                settings_of("queries", 0, **SHARES, ratio=0.9, ratio_splits=splits),
            )
