"""What a result must not depend on: batch size, processes, the order of images (A21), and masks where none are due."""

import csv

import h5py
import numpy as np
import pytest
from commands_support import CHAIN, NETWORK, STAGES, assert_same, assert_undisturbed, digest, listing, rewrite
from PIL import Image

from stages.artifacts.annotations import Annotations
from stages.artifacts.model import Model

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("batch", [1, 3, 5, 100])
@pytest.mark.parametrize("options", [[], ["--committee", "2"]])
def test_scores_do_not_depend_on_the_batch(batch, options, place, preloaded):
    words = [*CHAIN["score"].words[:-2], *options]
    preloaded.run(*words, "-o", "x.h5", cwd=place).expect(0)
    preloaded.run(*words, "--batch", batch, "-o", "y.h5", cwd=place).expect(0)
    assert_same(place / "x.h5", place / "y.h5")


@pytest.mark.parametrize("stage, workers", [("prepare", 1), ("prepare", 3), ("train", 2)])
def test_results_do_not_depend_on_the_number_of_workers(stage, workers, place, world, preloaded):
    step = CHAIN[stage]
    how = {"cwd": place, "forked_workers": stage == "train"}
    preloaded.run(*step.words, "--workers", workers, "--force", **how).expect(0, out="wrote")
    assert_undisturbed(place, world, step)


def answers(path):
    with Annotations(path) as ledger:
        rows = ledger.answers
        columns = zip(rows.image, rows.y, rows.x, rows.round, rows.label, strict=True)
        return sorted((ledger.ids[image], *row) for image, *row in columns)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--stream", "legacy"],
        ["--image-share", "0.5"],
        ["--scope", "dataset"],
        ["--scope", "dataset", "--rule", "top"],
    ],
)
def test_a21_select_and_annotate_do_not_depend_on_the_order_of_images(options, seed, place, world, preloaded):
    select = [*CHAIN["select"].words[:-2], *options, "-o", "x.h5"]
    annotate = ["annotate-simulate", "d.h5", "x.h5", "--annotations", "a0.h5", "--error-rate", "0.5", "-o", "y.h5"]
    found = []
    for shuffled in (False, True):
        if shuffled:
            draw = np.random.default_rng(seed)
            rewrite(
                place / "d.h5", [f"index/{name}" for name in ("id", "split", "height", "width")], draw.permutation(10)
            )
            columns = [f"images/{name}" for name in ("id", "height", "width", "score")]
            rewrite(place / "s1.h5", columns, draw.permutation(6))
        preloaded.run(*select, "--force", cwd=place).expect(0, out="wrote")
        preloaded.run(*annotate, "--force", cwd=place).expect(0, out="wrote")
        found.append((digest(place / "x.h5"), digest(place / "y.h5")))
    assert found[0] == found[1]


def test_random_scores_do_not_depend_on_the_order_of_images(place, world, preloaded):
    order = np.random.default_rng(3).permutation(10)
    rewrite(place / "d.h5", [f"index/{name}" for name in ("id", "split", "height", "width")], order)
    step = CHAIN["score first"]
    preloaded.run(*step.words, "--force", cwd=place).expect(0, out="wrote")
    assert_same(place / step.output, world / step.output)


def test_a_round_on_another_split_keeps_the_rows_of_the_ledger(place, preloaded):
    """The images of the second round are others, and the answers of the first stay with theirs."""
    for words in (
        ["score", "d.h5", "--measure", "random", "--split", "val", "-o", "s.h5"],
        ["select", "d.h5", "s.h5", "--annotations", "a0.h5", "--budget", "3", "-o", "q.h5"],
        ["annotate-simulate", "d.h5", "q.h5", "--annotations", "a0.h5", "-o", "a.h5"],
    ):
        preloaded.run(*words, cwd=place).expect(0, out="wrote")
    assert {row for row in answers(place / "a.h5") if row[3] == 0} == set(answers(place / "a0.h5"))
    assert {row[0] for row in answers(place / "a.h5") if row[3] == 1} == {"val_00000", "val_00001"}
    preloaded.run("verify", "a.h5", cwd=place).expect(0)
    words = ["train", "d.h5", "a.h5", *NETWORK, "--epochs", "1", "--batch", "4", "-o", "x.safetensors"]
    preloaded.run(*words, cwd=place).expect(0, out="1 epochs on 8 images")


@pytest.fixture
def unmasked(place):
    """The world's dataset with its masks taken out; its digest is still the recorded one."""
    with h5py.File(place / "d.h5", "r+") as file:
        del file["masks"]
    for stage in STAGES:
        if stage != "prepare":
            (place / CHAIN[stage].output).unlink()
    return place


def test_without_masks_every_stage_but_those_of_the_ground_truth_gives_the_same(unmasked, world, preloaded):
    (unmasked / "s0.h5").unlink()
    (unmasked / "q0.h5").unlink()
    for name in ("score first", "select first"):
        preloaded.run(*CHAIN[name].words, cwd=unmasked).expect(0, out="wrote")
        assert_same(unmasked / CHAIN[name].output, world / CHAIN[name].output)
    train = CHAIN["train"]
    preloaded.run(*train.words, cwd=unmasked).expect(0, out="3 epochs on 6 images\n")
    model, full = Model(unmasked / train.output), Model(world / train.output)
    assert model.checkpoints() == ["last"]
    assert full.checkpoints() == ["last", "best"]
    mine, theirs = model.weights("last"), full.weights("last")
    assert all(mine[name].equal(theirs[name]) for name in theirs)
    assert "val" not in (unmasked / "m.history.csv").read_text()
    for name in ("score", "select"):
        preloaded.run(*CHAIN[name].words, cwd=unmasked).expect(0, out="wrote")
        assert_same(unmasked / CHAIN[name].output, world / CHAIN[name].output)
    before = listing(unmasked)
    preloaded.run(*CHAIN["annotate-simulate"].words, cwd=unmasked).expect(2, err="has no mask for image")
    preloaded.run(*CHAIN["evaluate"].words, cwd=unmasked).expect(2, err="has no masks in split 'test'")
    assert listing(unmasked) == before


def test_the_oracle_privilege_needs_the_masks(unmasked, preloaded):
    words = ["select", "d.h5", "s0.h5", "--exclude-void", "-o", "x.h5"]
    preloaded.run(*words, cwd=unmasked).expect(2, err="has no mask for image")


def test_a_pool_without_masks_goes_round_with_answers_of_people(tmp_path, preloaded):
    """From PNG files without masks to the queries of the second round."""
    draw = np.random.default_rng(0)
    (tmp_path / "png").mkdir()
    for number in range(4):
        pixels = draw.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "png" / f"{number}.png")
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\nclasses = [{ name = "ground", color = [0, 0, 0] }, { name = "thing", color = [9, 9, 9] }]\n'
        '[splits.train]\nimages = "{id}.png"\n'
    )

    def run(*words):
        return preloaded.run(*words, cwd=tmp_path)

    run("prepare", "mine.toml", "--root", "png", "-o", "d.h5").expect(0, out="4 train images")
    run("score", "d.h5", "--measure", "random", "-o", "s0.h5").expect(0)
    run("select", "d.h5", "s0.h5", "--budget", "3", "-o", "q0.h5").expect(0)
    run("annotate-simulate", "d.h5", "q0.h5", "-o", "x.h5").expect(2, err="or use `alseg annotate`")
    run("export-queries", "d.h5", "q0.h5", "-o", "q0.csv").expect(0)
    with (tmp_path / "q0.csv").open() as file:
        lines = list(csv.DictReader(file))
    with (tmp_path / "q0.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(line | {"class": ("ground", "thing")[number % 2]} for number, line in enumerate(lines))
    run("import-answers", "d.h5", "q0.h5", "q0.csv", "-o", "a0.h5").expect(0, out="12 answers")
    run("train", "d.h5", "a0.h5", *NETWORK, "--epochs", "2", "-o", "m.safetensors").expect(0, out="2 epochs")
    run("score", "d.h5", "--model", "m.safetensors", "-o", "s1.h5").expect(0)
    run("select", "d.h5", "s1.h5", "--annotations", "a0.h5", "--budget", "3", "-o", "q1.h5").expect(0, out="round 1")
    run("evaluate", "d.h5", "m.safetensors", "-o", "e.h5").expect(2, err="has no images in split 'test'")
    run("verify", "d.h5", "s0.h5", "q0.h5", "a0.h5", "m.safetensors", "s1.h5", "q1.h5").expect(0)
    assert digest(tmp_path / "q0.h5") != digest(tmp_path / "q1.h5")
