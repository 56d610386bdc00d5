"""Recipes of regions and class sets have the published numbers, and their ablations change what they name alone."""

import pytest

from stages.recipes.plan import read_plan
from stages.recipes.profile import profile_names
from stages.recipes.recipe import load_recipe
from stages.regions.cutters.seeds import fitting_blocks


def settings(recipe, step, profile=None, rounds=None):
    """The flat settings of a step; in its later rounds if it has several forms."""
    plan = read_plan(recipe, profile)
    found = [each for each in plan.recipe.steps if each.name == step and rounds in (None, each.rounds)]
    return plan.settings(next((each for each in found if each.rounds == "later"), found[0])).flat()


def steps(training):
    """Training steps of a schedule that counts them, and steps between validations."""
    per_epoch = training["steps_per_epoch"]
    return training["epochs"] * per_epoch, training["validate_every"] * per_epoch


@pytest.mark.parametrize("recipe", ["multi-class-query", "multi-class-query-reference"])
@pytest.mark.parametrize(
    "profile, step, batch, rate, number, period",
    [  # multi_class_query.md 0
        ("cityscapes", "stage1", 4, 2e-5, 80_000, 5_000),
        ("cityscapes", "stage2", 4, 4e-5, 80_000, 5_000),
        ("voc2012", "stage1", 12, 1e-5, 30_000, 2_500),
        ("voc2012", "stage2", 4, 1e-5, 30_000, 2_500),
    ],
)
def test_both_stages_of_class_sets(recipe, profile, step, batch, rate, number, period):
    found = settings(recipe, step, profile)
    assert (found["batch"], found["backbone_lr"], found["head_lr"]) == (batch, rate, pytest.approx(10 * rate))
    assert steps(found) == (number, period)
    assert (found["optimiser"], found["weight_decay"], found["lr_floor"]) == ("adamw", 1e-5, 1e-6)


def test_resnet101_learns_twice_as_fast_in_stage_2_on_voc():
    found = settings("multi-class-query-resnet101-reference", "stage2", "voc2012")
    assert (found["backbone"], found["backbone_lr"], found["head_lr"]) == ("resnet101s.gluon_in1k", 2e-5, 2e-4)


def test_the_reference_uses_the_best_on_val():
    for recipe, checkpoint in {"multi-class-query": "last", "multi-class-query-reference": "best"}.items():
        assert settings(recipe, "scores")["checkpoint"] == settings(recipe, "pseudo-labels")["checkpoint"] == checkpoint
    assert settings("dominant-query-reference", "scores")["checkpoint"] == "best"


def test_dominant_queries_learn_at_the_rate_of_stage_2_on_cityscapes():
    assert settings("dominant-query", "model", "cityscapes")["backbone_lr"] == 4e-5


PUBLISHED_XCEPTION = ["classbal-reference", "adaptive-superpixel-reference", "rectangles-reference", "full-xception65"]


@pytest.mark.parametrize("recipe", PUBLISHED_XCEPTION)
@pytest.mark.parametrize("profile, batch, number", [("cityscapes", 4, 60_000), ("voc2012", 12, 30_000)])
def test_xception65_is_trained_as_published(recipe, profile, batch, number):
    found = settings(recipe, "model", profile)
    assert (found["backbone"], found["batch"], steps(found)) == ("xception65.tf_in1k", batch, (number, number))
    assert (found["backbone_lr"], found["head_lr"], found["bias_factor"]) == (7e-3, 7e-3, 2)
    assert (found["weight_decay"], found["decayed"], found["norm_momentum"]) == (4e-5, "dense", 3e-4)
    assert found["crop"] == [{"cityscapes": 769, "voc2012": 513}[profile]] * 2


@pytest.mark.parametrize("profile", ["cityscapes", "voc2012", "camvid"])
def test_full_supervision_trains_as_the_methods_it_bounds(profile):
    assert settings("full-xception65", "model", profile) == settings("classbal-reference", "model", profile)
    other = {} if profile != "voc2012" else {"batch": 4}
    assert settings("full-cosine", "model", profile) == settings("dominant-query-reference", "model", profile) | other


@pytest.mark.parametrize("recipe", ["full-xception65", "full-cosine"])
def test_full_supervision_queries_all_masks_under_every_profile(recipe):
    for profile in [None, *profile_names()]:
        assert settings(recipe, "queries", profile)["budget"] == 0
        assert settings(recipe, "annotations", profile)["click_budget"] is None
        assert settings(recipe, "scores", profile)["unit"] == "image"


@pytest.mark.parametrize("recipe", PUBLISHED_XCEPTION)
@pytest.mark.parametrize("profile, images", [("cityscapes", 2975), ("voc2012", 1464), ("camvid", 367), ("own", 100)])
def test_batch_normalisation_forgets_its_initial_statistics(recipe, profile, images):
    found = settings(recipe, "model", profile)
    number = found["epochs"] * (found["steps_per_epoch"] or images // found["batch"])
    assert (1 - found["norm_momentum"]) ** number < 1e-3


@pytest.mark.parametrize("recipe", ["classbal", "rectangles", "oracle-superpixel", "adaptive-superpixel"])
def test_the_network_sees_cityscapes_at_half_size_where_it_scores(recipe):
    for name in (recipe, f"{recipe}-reference"):
        assert settings(name, "scores", "cityscapes")["input_scale"] == 0.5
        assert settings(name, "scores", "voc2012")["input_scale"] == 1
    if recipe == "adaptive-superpixel":
        assert settings(recipe, "regions", "cityscapes")["input_scale"] == 0.5
        assert settings(recipe, "pseudo-labels", "cityscapes")["input_scale"] == 0.5


def test_class_sets_are_scored_at_full_size():
    assert settings("multi-class-query", "scores", "cityscapes")["input_scale"] == 1


@pytest.mark.parametrize(
    "recipe, height, width, number",
    [  # the released lists of Hwang et al. (multi_class_query.md 2); adaptive_superpixel.md 2.1 for 200 of 375 x 500
        ("multi-class-query", 375, 500, 70),
        ("multi-class-query", 333, 500, 60),
        ("multi-class-query", 320, 480, 150),
        ("multi-class-query", 281, 500, 50),
        ("classbal", 375, 500, 165),
        ("adaptive-superpixel", 375, 500, 165),
    ],
)
def test_voc_is_cut_into_as_many_regions_as_published(recipe, height, width, number):
    for name in (recipe, f"{recipe}-reference"):
        cut = settings(name, "base", "voc2012")
        asked = (cut["region_pixels"] and height * width // cut["region_pixels"]) or cut["count"]
        assert fitting_blocks(height, width, asked, cut["levels"]).slots == number


def budgets(recipe, profile):
    return settings(recipe, "queries", profile)["budget"]


def test_clicks_of_a_round():
    assert budgets("classbal-reference", "cityscapes") == 100_000
    assert (
        budgets("adaptive-superpixel-reference", "cityscapes") == budgets("oracle-superpixel", "cityscapes") == 50_000
    )
    for recipe in ("classbal-reference", "adaptive-superpixel-reference", "oracle-superpixel"):
        assert budgets(recipe, "voc2012") == 10_000


MUL, DOM, AMSP = "multi-class-query-reference", "dominant-query-reference", "adaptive-superpixel-reference"
ABLATIONS = {
    # recipe: (what it is compared with, {(step, setting): value})
    "adaptive-superpixel-unsieved-reference": (AMSP, {("pseudo-labels", "sieve"): "none"}),
    "adaptive-superpixel-unmerged-reference": (AMSP, {("regions", "epsilon"): 0}),
    "adaptive-superpixel-plain-reference": (AMSP, {("pseudo-labels", "sieve"): "none", ("regions", "epsilon"): 0}),
    "adaptive-superpixel-epsilon-0.05-reference": (AMSP, {("regions", "epsilon"): 0.05}),
    "adaptive-superpixel-epsilon-0.15-reference": (AMSP, {("regions", "epsilon"): 0.15}),
    "adaptive-superpixel-epsilon-0.2-reference": (AMSP, {("regions", "epsilon"): 0.2}),
    "multi-class-query-random-reference": (MUL, {("scores", "measure"): "random"}),
    "multi-class-query-bvsb-reference": (MUL, {("scores", "class_balance"): "none", ("scores", "rescale"): True}),
    "multi-class-query-classbal-reference": (
        MUL, {("scores", "class_balance"): "regions", ("scores", "rescale"): True},
    ),
    "multi-class-query-unexpanded-reference": (MUL, {("pseudo-labels", "expansion"): "none"}),
    "multi-class-query-unprototypical-reference": (MUL, {("stage1", "prototype_weight"): 0}),
    "multi-class-query-unmerged-reference": (MUL, {("stage1", "merged_weight"): 0}),
    "multi-class-query-argmax-reference": (
        MUL, {("pseudo-labels", "method"): "argmax", ("pseudo-labels", "extent"): "image"},
    ),
    "dominant-query-random-reference": (DOM, {("scores", "measure"): "random"}),
    "dominant-query-bvsb-reference": (DOM, {("scores", "class_balance"): "none", ("scores", "rescale"): True}),
    "dominant-query-classbal-reference": (DOM, {("scores", "class_balance"): "regions", ("scores", "rescale"): True}),
    "classbal-uncertainty-reference": ("classbal-reference", {("scores", "class_balance"): "none"}),
    "classbal-random-reference": ("classbal-reference", {("scores", "measure"): "random"}),
    "rectangles-random-reference": ("rectangles-reference", {("scores", "measure"): "random"}),
}  # fmt: skip


@pytest.mark.parametrize("profile", ["cityscapes", "voc2012"])
@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_what_it_names_alone(name, profile):
    whole, changes = ABLATIONS[name]
    own, other = load_recipe(name), load_recipe(whole)
    assert [(step.name, step.rounds, step.reads) for step in own.steps] == [
        (step.name, step.rounds, step.reads) for step in other.steps
    ]
    found = {}
    for step in own.steps:
        mine, theirs = settings(name, step.name, profile), settings(whole, step.name, profile)
        # settings that apply to one of the two alone follow from a choice that is listed
        found |= {(step.name, key): mine[key] for key in mine.keys() & theirs.keys() if mine[key] != theirs[key]}
        found |= {(step.name, key): mine[key] for key in mine.keys() - theirs.keys() if (step.name, key) in changes}
    assert found == changes


def test_what_users_can_plan_is_listed(capsys):
    from stages.recipes.listing import list_recipes

    list_recipes()
    listed = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert set(ABLATIONS) <= listed
    assert "xception65-as-published" not in listed  # a base without steps
