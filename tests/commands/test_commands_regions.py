"""The stages on regions: up to date or not, and what their results must not depend on."""

import hashlib
import shutil

import h5py
import numpy as np
import pytest
from commands_support import LONG_REGION_STAGES, REGION_CHAIN, assert_same, digest, listing, rewrite

from stages.artifacts.annotations import Annotations
from stages.artifacts.opening import open_any
from stages.artifacts.pseudo_labels import PseudoLabels
from stages.artifacts.superpixels import Superpixels

pytestmark = pytest.mark.slow

BASE, ADAPTIVE = REGION_CHAIN["extract-superpixels"], REGION_CHAIN["adaptive"]
OTHER_BASE = (*BASE.words[:-2], "--count", "12")
# settings that decide the result, and what the rebuild says about them
SETTINGS = {
    "extract-superpixels": (["--method", "grid"], "setting method seeds is now grid"),
    "adaptive": (["--epsilon", "0.02"], "setting epsilon 0.01 is now 0.02"),
    "score": (["--class-balance", "regions"], "setting class_balance pixels is now regions"),
    "select": (["--exclude-queried", "1"], "setting exclude_queried 0.5 is now 1.0"),
    "annotate-simulate": (["--void-policy", "exclude"], "setting void_policy count is now exclude"),
    "pseudo-label": (["--sieve", "none"], "setting sieve max is now none"),
}
# settings of where and how fast, which decide nothing
EXECUTION = {
    "extract-superpixels": ["--workers", "3"],
    "adaptive": ["--workers", "2", "--batch", "1", "--device", "cpu"],
    "score": ["--batch", "1", "--device", "cpu"],
    "pseudo-label": ["--batch", "1", "--device", "cpu"],
}
stages = pytest.mark.parametrize("stage", SETTINGS)


def test_the_world_of_regions_is_worth_testing(region_world):
    base, merged = Superpixels(region_world / "r.h5"), Superpixels(region_world / "g.h5")
    assert base.count / 2 < merged.count < base.count
    labels, ledger = PseudoLabels(region_world / "p.h5"), Annotations(region_world / "ra1.h5")
    assert labels.header.counts["sieved_regions"] > 1
    assert sum(labels.labelled_pixels) < sum((ledger.label_map(image) != 255).sum() for image in ledger.ids)
    assert {file.method for file in ledger.region_files} == {"seeds", "adaptive"}


@stages
def test_up_to_date_until_a_setting_changes_which_is_named(stage, region_place, preloaded):
    step = REGION_CHAIN[stage]
    before = listing(region_place)
    preloaded.run(*step.words, cwd=region_place).expect(0, out=f"{step.output} is up to date\n")
    if stage in EXECUTION:
        preloaded.run(*step.words, *EXECUTION[stage], cwd=region_place).expect(0, out="is up to date")
    assert listing(region_place) == before
    options, says = SETTINGS[stage]
    done = preloaded.run(*step.words, *options, "--seed", "5", cwd=region_place)
    done.expect(0, out=f"rebuilding {step.output}: seed 0 is now 5; {says}")
    preloaded.run(*step.words, *options, "--seed", "5", cwd=region_place).expect(0, out="is up to date")
    preloaded.run(*step.words, cwd=region_place).expect(0, out=f"rebuilding {step.output}: seed 5 is now 0; ")


def test_after_a_change_of_the_base_every_stage_is_built_again_in_turn(region_place, region_world, preloaded):
    """Each says what changed; asked out of turn, those that would mix old and new regions refuse."""
    preloaded.run(*OTHER_BASE, "-o", "r.h5", cwd=region_place).expect(0, out="rebuilding r.h5: setting count 24 is now")
    for name in ("select first", "annotate first"):
        done = preloaded.run(*REGION_CHAIN[name].words, cwd=region_place)
        done.expect(2, err="was made from another superpixels (r.h5, digest")
    preloaded.run("verify", "g.h5", cwd=region_place).expect(2, err="its superpixels r.h5 changed since")
    changed = {
        "score first": ["superpixels (r.h5)"],
        "select first": ["scores (rs0.h5)", "superpixels (r.h5)"],
        "annotate first": ["queries (rq0.h5)", "superpixels (r.h5)"],
        "adaptive": ["superpixels (r.h5)"],
        "score": ["superpixels (g.h5)"],
        "select": ["annotations (ra0.h5)", "scores (rs1.h5)", "superpixels (g.h5)"],
        "annotate-simulate": ["annotations (ra0.h5)", "queries (rq1.h5)", "superpixels (g.h5)"],
        "pseudo-label": ["annotations (ra1.h5)"],
        "neighbours": ["annotations (ra1.h5)", "superpixels (r.h5)"],
    }
    for name, inputs in changed.items():
        step = REGION_CHAIN[name]
        told = "; ".join("input {} changed {}".format(*role.split(" ")) for role in inputs)
        preloaded.run(*step.words, cwd=region_place).expect(0, out=f"rebuilding {step.output}: {told}\n")
        assert digest(region_place / step.output) != digest(region_world / step.output)
    preloaded.run("verify", *(step.output for step in REGION_CHAIN.values()), cwd=region_place).expect(0)


@pytest.mark.parametrize("stage", ["adaptive", "pseudo-label"])
def test_another_model_is_named_and_rebuilds(stage, region_place, other_model, preloaded):
    step = REGION_CHAIN[stage]
    shutil.copy(other_model, region_place / "m.safetensors")
    done = preloaded.run(*step.words, cwd=region_place)
    done.expect(0, out=f"rebuilding {step.output}: input model changed (m.safetensors)\n")


def test_another_method_for_the_same_file_names_the_inputs_that_are_no_longer_given(region_place, preloaded):
    done = preloaded.run(*BASE.words[:-2], "-o", "g.h5", cwd=region_place)
    done.expect(0, out="; input model is no longer given; input superpixels is no longer given\n")
    done = preloaded.run(*ADAPTIVE.words, cwd=region_place)
    done.expect(0, out="; input model was not given; input superpixels was not given\n")


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("stage", ["adaptive", "score", "pseudo-label"])
def test_results_do_not_depend_on_the_batch(stage, batch, region_place, region_world, preloaded):
    step = REGION_CHAIN[stage]
    preloaded.run(*step.words, "--batch", batch, "--force", cwd=region_place).expect(0, out="wrote")
    assert_same(region_place / step.output, region_world / step.output)


def test_oracle_regions_do_not_depend_on_the_number_of_workers(region_place, preloaded):
    for workers, name in ((1, "x.h5"), (2, "y.h5")):
        words = ["extract-superpixels", "d.h5", "--method", "oracle", "--workers", workers, "-o", name]
        preloaded.run(*words, cwd=region_place).expect(0, out="wrote")
    assert_same(region_place / "x.h5", region_place / "y.h5")
    assert Superpixels(region_place / "x.h5").attributes["oracle_privilege"] == "oracle regions"


def test_merged_oracle_regions_stay_a_privilege_and_void_images_stay_without_regions(region_place, preloaded):
    with h5py.File(region_place / "d.h5", "r+") as file:
        mask = file["masks/train_00000"]
        mask[...] = 255
        mask.attrs["sha256"] = hashlib.sha256(mask[()].tobytes()).hexdigest()
    words = ["extract-superpixels", "d.h5", "--method", "oracle", "--workers", "1", "-o", "r.h5"]
    preloaded.run(*words, cwd=region_place).expect(0, out="wrote")
    for name in ("adaptive", "score", "select first"):
        words = [word.replace("rs0.h5", "rs1.h5") for word in REGION_CHAIN[name].words]
        if name == "select first":
            words[words.index("r.h5")] = "g.h5"
        preloaded.run(*words, cwd=region_place).expect(0, out="wrote")
    merged = Superpixels(region_place / "g.h5")
    assert merged.rows["train_00000"] == slice(0, 0)
    assert (merged.labels("train_00000") == -1).all()
    for artifact in (merged, open_any(region_place / "rs1.h5"), open_any(region_place / "rq0.h5")):
        assert artifact.attributes["oracle_privilege"] == "oracle regions"


def test_regions_do_not_depend_on_the_order_of_images(region_place, region_world, preloaded):
    order = np.random.default_rng(4).permutation(10)
    rewrite(region_place / "d.h5", [f"index/{name}" for name in ("id", "split", "height", "width")], order)
    for step in REGION_CHAIN.values():
        preloaded.run(*step.words, "--force", cwd=region_place).expect(0, out="wrote")
        assert_same(region_place / step.output, region_world / step.output)


def test_without_masks_only_the_simulated_annotator_and_the_oracle_refuse(region_place, region_world, preloaded):
    with h5py.File(region_place / "d.h5", "r+") as file:
        del file["masks"]
    for name in ("extract-superpixels", "score first", "select first", *LONG_REGION_STAGES, "select"):
        step = REGION_CHAIN[name]
        preloaded.run(*step.words, "--force", cwd=region_place).expect(0, out="wrote")
        assert_same(region_place / step.output, region_world / step.output)
    (region_place / "ra0.h5").unlink()
    before = listing(region_place)
    words = ["extract-superpixels", "d.h5", "--method", "oracle", "-o", "x.h5"]
    preloaded.run(*words, cwd=region_place).expect(2, err="has no masks in split 'train', but method oracle cuts them")
    preloaded.run(*REGION_CHAIN["annotate first"].words, cwd=region_place).expect(2, err="has no mask for image")
    assert listing(region_place) == before
