"""Answers that name classes together, through the commands: kills, what results must not depend on, refusals."""

import hashlib
import signal
import sys
import threading
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from commands_support import COSINE, SETS_CHAIN, TRAIN, assert_same, assert_undisturbed, listing, remove, rewrite
from damage_support import refuse

from stages.artifacts.annotations import Annotations
from stages.artifacts.evaluation import Evaluation
from stages.artifacts.model import Model
from stages.artifacts.pseudo_labels import PseudoLabels
from stages.artifacts.scores import Scores
from stages.pixels.void import VOID
from stages.training.learners.class_sets import ClassSetLearner
from stages.training.samples.maps import Batch

pytestmark = pytest.mark.slow

CLASSES = 9
STAGES = ("annotate-simulate", "train", "score", "pseudo-label")
SHARDED = ("score", "pseudo-label")
CHANGES = 200  # of files and folders: more than any stage makes here
STEPS = {"annotate-simulate": 1, "train": 3, "score": 3, "pseudo-label": 3}  # from one kill to the next
# settings that decide the result, and what the rebuild says about them
SETTINGS = {
    "select": (["--answer", "dominant"], "setting answer class-set is now dominant"),
    "annotate-simulate": (["--trim", "3"], "setting trim 5 is now 3"),
    "train": (["--merged-weight", "4"], "setting merged_weight 8.0 is now 4.0"),
    "score": (["--balance-strength", "12"], "setting balance_strength 6.0 is now 12.0"),
    "pseudo-label": (["--expansion", "largest"], "setting expansion reference is now largest"),
}
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]

SCORE = ["score", "d.h5", "--unit", "region", "--measure", "bvsb", "--superpixels", "r.h5", "-o", "x.h5"]
LABEL = ["pseudo-label", "d.h5", "-o", "x.h5"]
ANNOTATE = ["annotate-simulate", "d.h5", "cq0.h5", "--superpixels", "r.h5", "-o", "x.h5"]
PROTOTYPES, BASE = ["--method", "prototypes"], ["--superpixels", "r.h5"]
LEARNED, LINEAR = ["--model", "c.safetensors"], ["--model", "m.safetensors"]


def test_the_world_of_class_sets_is_worth_testing(sets_world):
    ledger, labels = Annotations(sets_world / "ca1.h5"), PseudoLabels(sets_world / "cp.h5")
    sets = ledger.answers.class_sets
    assert sets.sum(1).min() == 1
    assert (sets.sum(1) > 1).sum() > 10
    assert 0 < sets[:, -1].sum() < len(sets)
    assert ledger.header.counts["last_round"]["unanswered"] > 0
    assert len(np.unique(ledger.answers.region)) == len(sets)
    for name in ("c", "c2"):
        assert Model(sets_world / f"{name}.safetensors").outputs == CLASSES + 1
    found = np.concatenate([labels.label_map(image, CLASSES).ravel() for image in labels.ids])
    asked = sum(int(ledger.queried_area(image).sum()) for image in ledger.ids)
    assert CLASSES in found
    assert asked < (found != VOID).sum() < len(found), "labels spread beyond what was asked, but not everywhere"


@pytest.mark.parametrize("stage", SETTINGS)
def test_up_to_date_until_a_setting_changes_which_is_named(stage, sets_place, preloaded):
    step = SETS_CHAIN[stage]
    before = listing(sets_place)
    preloaded.run(*step.words, cwd=sets_place).expect(0, out=f"{step.output} is up to date\n")
    assert listing(sets_place) == before
    options, says = SETTINGS[stage]
    words = [*step.words, "--epochs", "1"] if stage == "train" else list(step.words)
    done = preloaded.run(*words, *options, "--seed", "5", cwd=sets_place)
    done.expect(0, out=f"rebuilding {step.output}: seed 0 is now 5; ")
    assert says in done.out


# A15: kills


@pytest.mark.parametrize("stage", STAGES)
def test_a_rerun_after_kills_at_changes_on_disk_gives_the_same(stage, sets_place, sets_world, preloaded):
    """Run n dies at its n-th such change, on top of what the runs before it left, until one gets through."""
    step = SETS_CHAIN[stage]
    remove(sets_place, step)
    for point in range(1, CHANGES, STEPS[stage]):
        done = preloaded.run(*step.words, cwd=sets_place, signal_at=(point, signal.SIGKILL))
        if done.code == 0:
            break
        assert done.code == -signal.SIGKILL, done
    assert point > 4
    preloaded.run(*step.words, cwd=sets_place).expect(0, out="up to date")
    assert_undisturbed(sets_place, sets_world, step)


@pytest.mark.parametrize("steps", [1, 4, pytest.param(7, marks=pytest.mark.slow)])
def test_a_training_stopped_between_steps_goes_on_to_the_same_bytes(steps, sets_place, sets_world, preloaded):
    step = SETS_CHAIN["train"]
    remove(sets_place, step)
    done = preloaded.run(*step.words, cwd=sets_place, stop_after=steps)
    done.expect(75, err=f"stopped and saved after step {steps};")
    preloaded.run(*step.words, cwd=sets_place).expect(0, out="wrote")
    assert_undisturbed(sets_place, sets_world, step)


@pytest.mark.parametrize("stage", SHARDED)
def test_sigterm_saves_and_the_same_command_goes_on(stage, sets_place, sets_world, preloaded):
    step = SETS_CHAIN[stage]
    remove(sets_place, step)
    for number in range(2):
        done = preloaded.run(*step.words, cwd=sets_place, signal_at=(6, signal.SIGTERM))
        done.expect(75, err=f"stopped after {2 * number + 2} of 6 images; run the same command to continue")
        assert not (sets_place / step.output).exists()
    preloaded.run(*step.words, cwd=sets_place).expect(0, out="wrote")
    assert_undisturbed(sets_place, sets_world, step)


# What results must not depend on


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("stage", SHARDED)
def test_results_do_not_depend_on_the_batch(stage, batch, sets_place, sets_world, preloaded):
    step = SETS_CHAIN[stage]
    preloaded.run(*step.words, "--batch", batch, "--force", cwd=sets_place).expect(0, out="wrote")
    assert_undisturbed(sets_place, sets_world, step)


def test_training_does_not_depend_on_the_number_of_workers(sets_place, sets_world, preloaded):
    step = SETS_CHAIN["train"]
    done = preloaded.run(*step.words, "--workers", 2, "--force", cwd=sets_place, forked_workers=True)
    done.expect(0, out="wrote")
    assert_undisturbed(sets_place, sets_world, step)


def test_nothing_depends_on_the_order_of_images(sets_place, sets_world, preloaded):
    order = np.random.default_rng(4).permutation(10)
    rewrite(sets_place / "d.h5", [f"index/{name}" for name in ("id", "split", "height", "width")], order)
    for step in SETS_CHAIN.values():
        preloaded.run(*step.words, "--force", cwd=sets_place).expect(0, out="wrote")
        assert_same(sets_place / step.output, sets_world / step.output)


class Threads:
    """Two processes' ``Ranks`` as two threads."""

    size = 2

    def __init__(self):
        self.barrier, self.given = threading.Barrier(2), {}

    def sum(self, values):
        self.given[threading.get_ident()] = values.clone()
        self.barrier.wait()
        total = sum(self.given.values())
        self.barrier.wait()
        return total


def test_two_shares_of_a_batch_teach_what_the_whole_batch_does():
    """However unevenly answers are spread over the processes: the mean of their gradients is that of one process."""
    draw = torch.Generator().manual_seed(3)
    logits = torch.randn(4, CLASSES, 12, 16, generator=draw, dtype=torch.float64)
    answers = torch.arange(4).view(4, 1, 1) * 5 + torch.randint(0, 5, (4, 12, 16), generator=draw)
    sets = torch.rand(20, CLASSES, generator=draw) < 0.25
    sets[::4] = torch.eye(CLASSES, dtype=torch.bool)[:5]  # some with one class
    answers[0][torch.rand(12, 16, generator=draw) < 0.9] = -1
    answers[2] = -1
    images = torch.zeros(4, 3, 12, 16, dtype=torch.uint8)

    def gradient(part, ranks, into):
        leaf = logits[part].clone().requires_grad_()
        over = {"merged_over": "several", "prototypes_over": "several"}
        learner = SimpleNamespace(device=torch.device("cpu"), ranks=ranks, loss_factors=(16.0, 8.0, 1.0), **over)
        losses = ClassSetLearner.losses(learner, leaf, Batch(images[part], answers[part], [], 1, sets))
        losses["loss"].backward()
        into[part.start] = (leaf.grad / ranks.size, losses["loss"].item() / ranks.size)

    alone = SimpleNamespace(size=1, sum=lambda values: values)
    whole, shares, ranks = {}, {}, Threads()
    gradient(slice(0, 4), alone, whole)
    workers = [threading.Thread(target=gradient, args=(slice(at, at + 2), ranks, shares)) for at in (0, 2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert torch.allclose(torch.cat([shares[0][0], shares[2][0]]), whole[0][0], rtol=1e-9, atol=1e-15)
    assert shares[0][1] + shares[2][1] == pytest.approx(whole[0][1])


# Models that learned void


def test_a_model_that_learned_void_serves_every_stage_and_never_predicts_it(sets_place, preloaded):
    commands = {
        "e1.h5": ["evaluate", "d.h5", "c.safetensors"],
        "e2.h5": ["evaluate", "d.h5", "c.safetensors", "--flip", "--scales", "0.75,1"],
        "s.h5": ["score", "d.h5", *LEARNED],
        "s2.h5": ["score", "d.h5", *LEARNED, "--committee", "2", "--vote", "hard"],
        "drop.h5": SCORE[:-2] + LEARNED,
        "keep.h5": [*SCORE[:-2], *LEARNED, "--void-output", "keep", "--class-balance", "pixels"],
        "g.h5": ["extract-superpixels", "d.h5", "--method", "adaptive", *BASE, *LEARNED, "--epsilon", "0.01"],
        "p.h5": ["pseudo-label", "d.h5", "ca1.h5", *LEARNED],
        "pc.h5": ["pseudo-label", "d.h5", "ca1.h5", "--method", "candidates", *BASE, *LEARNED],
        "pa.h5": ["pseudo-label", "d.h5", "ca1.h5", "--method", "argmax", *BASE, *LEARNED, "--flip"],
        "pi.h5": ["pseudo-label", "d.h5", "ca1.h5", "--method", "argmax", *BASE, *LEARNED, "--extent", "image"],
    }
    for output, words in commands.items():
        preloaded.run(*words, "-o", output, cwd=sets_place).expect(0, out=f"wrote {output}")
    for name in ("e1.h5", "e2.h5"):
        confusion = Evaluation(sets_place / name).confusion
        assert confusion.shape[1:] == (CLASSES, CLASSES)
        assert confusion.sum() > 0
    inside, whole = PseudoLabels(sets_place / "pa.h5"), PseudoLabels(sets_place / "pi.h5")
    queried = Annotations(sets_place / "ca1.h5")
    for image in whole.ids:
        assert (whole.label_map(image, CLASSES) != VOID).all()
        assert ((inside.label_map(image, CLASSES) != VOID) == queried.queried_area(image)).all()
    for name, outputs in {"drop.h5": CLASSES, "keep.h5": CLASSES + 1}.items():
        scores = Scores(sets_place / name)
        assert scores.read("regions/predicted").max() < outputs
        assert len(scores.read("classes/share")) == outputs


def test_labels_with_void_serve_a_network_that_does_not_learn_it_and_are_drawn(sets_place, preloaded):
    words = ["train", "d.h5", "cp.h5", *COSINE, "--no-learn-void", "--epochs", "1", "-o", "x.safetensors"]
    preloaded.run(*words, cwd=sets_place).expect(0, out="wrote")
    labels, model = PseudoLabels(sets_place / "cp.h5"), Model(sets_place / "x.safetensors")
    of_class = sum(int((labels.label_map(image) != VOID).sum()) for image in labels.ids)
    assert model.header.counts["labelled_pixels"] == of_class
    assert Model(sets_place / "c2.safetensors").header.counts["labelled_pixels"] > of_class
    for name in ("ca1", "cp"):
        words = ["inspect", f"{name}.h5", "--dataset", "d.h5", "--png", f"{name}.png"]
        preloaded.run(*words, cwd=sets_place).expect(0)


# Refusals


@pytest.mark.parametrize(
    "words, says",
    [
        (
            [*LABEL, "ca1.h5", *PROTOTYPES, *LEARNED],
            "Class sets belong to regions. Pass the queried regions with --superpixels.",
        ),
        (
            [*LABEL, "ca1.h5", "--method", "candidates", *LEARNED],
            "Class sets belong to regions. Pass the queried regions with --superpixels.",
        ),
        (
            [*LABEL, "ca1.h5", *PROTOTYPES, *BASE, *LINEAR],
            "m.safetensors has no cosine classifier, which prototypes need. Train a model with --architecture "
            "deeplabv3plus --classifier cosine.",
        ),
        ([*LABEL, "a1.h5", *PROTOTYPES, *BASE, *LEARNED], "a1.h5 contains no class sets. Use --method sieve."),
        ([*LABEL, "ca1.h5", *PROTOTYPES, *BASE, *LEARNED, "--expansion", "twice"], "expansion"),
        ([*LABEL, "ca1.h5", *PROTOTYPES, *BASE, *LEARNED, "--checkpoint", "worst"], "checkpoint"),
        ([*LABEL, "ca1.h5", *PROTOTYPES, *BASE, *LEARNED, "--prototype-temperature", "0"], "prototype_temperature"),
        ([*LABEL, "ca1.h5", *PROTOTYPES, "--superpixels", "rs0.h5", *LEARNED], "rs0.h5 holds scores, not superpixels"),
        (
            [*TRAIN[:2], "cp.h5", *COSINE, "--objective", "class-sets", "-o", "x.safetensors"],
            "cp.h5 holds pseudo_labels, but objective class-sets learns from annotations. Pass a ledger.",
        ),
        (
            [*TRAIN[:2], "a1.h5", *COSINE, "--objective", "class-sets", "-o", "x.safetensors"],
            "a1.h5 has no class sets. Set --objective labels.",
        ),
        ([*TRAIN[:2], "ca1.h5", *COSINE, "--temperature", "0", "-o", "x.safetensors"], "temperature"),
        (
            [
                *TRAIN[:2],
                "ca1.h5",
                *COSINE,
                "--objective",
                "class-sets",
                "--merged-weight",
                "-1",
                "-o",
                "x.safetensors",
            ],
            "merged_weight",
        ),
        ([*TRAIN[:2], "ca1.h5", "--merged-weight", "1", "-o", "x.safetensors"], "it is for objective class-sets"),
        ([*ANNOTATE, "--trim", "4"], "trim must be odd (its square is centred on the border), or 0 for none"),
        ([*ANNOTATE, "--click-stop", "never"], "click_stop"),
        ([*ANNOTATE, "--void-policy", "ignore"], "void_policy"),
        (["score", "d.h5", "--class-balance", "probability", *LEARNED, "-o", "x.h5"], "does not apply to unit pixel"),
        ([*SCORE, "--measure", "random", "--class-balance", "probability"], "class-balance does not apply to"),
        ([*SCORE, *LEARNED, "--balance-strength", "2"], "balance-strength does not apply"),
        (
            [*SCORE, *LINEAR, "--void-output", "ban"],
            "m.safetensors did not learn void, which --void-output ban needs. Set it to drop, or train with "
            "--learn-void.",
        ),
        (
            [*SCORE, *LINEAR, "--class-balance", "probability", "--void-output", "keep"],
            "did not learn void, which --void-output keep needs. Set it to drop, or train with --learn-void.",
        ),
    ],
)
def test_what_does_not_go_together(words, says, sets_place, preloaded):
    done = refuse(preloaded, sets_place, *words, says=says)
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith("error: ")


def test_other_regions_than_those_asked_about(sets_place, preloaded):
    words = ["extract-superpixels", "d.h5", "--count", "12", "--workers", "1", "-o", "o.h5"]
    preloaded.run(*words, cwd=sets_place).expect(0, out="wrote")
    words = [*LABEL, "ca1.h5", *PROTOTYPES, *LEARNED, "--superpixels", "o.h5"]
    says = "ca1.h5 answers queries of other regions than o.h5. Pass the superpixels that were queried."
    refuse(preloaded, sets_place, *words, says=says)


def test_a_ledger_of_dominant_classes_names_no_sets(sets_place, preloaded):
    words = ["select", "d.h5", "rs0.h5", *BASE, "--rule", "top", "--budget", "12", "-o", "dq.h5"]
    preloaded.run(*words, cwd=sets_place).expect(0, out="wrote")
    words = ["annotate-simulate", "d.h5", "dq.h5", *BASE, "-o", "da.h5"]
    preloaded.run(*words, cwd=sets_place).expect(0, out="wrote")
    says = "da.h5 contains no class sets. Use --method sieve."
    refuse(preloaded, sets_place, *LABEL, "da.h5", *PROTOTYPES, *BASE, *LEARNED, says=says)
    words = [*TRAIN[:2], "da.h5", *COSINE, "--objective", "class-sets", "-o", "x.safetensors"]
    refuse(preloaded, sets_place, *words, says="da.h5 has no class sets. Set --objective labels.")


def test_sets_of_nothing_but_void_teach_nothing(sets_place, preloaded):
    with h5py.File(sets_place / "d.h5", "r+") as file:
        for mask in file["masks"].values():
            mask[...] = VOID
            mask.attrs["sha256"] = hashlib.sha256(mask[()].tobytes()).hexdigest()
    preloaded.run(*ANNOTATE, cwd=sets_place).expect(0, out="48 new answers (48 void), 48 clicks")
    words = [*TRAIN[:2], "x.h5", *COSINE, "--no-learn-void", "--objective", "class-sets", "-o", "x.safetensors"]
    refuse(
        preloaded, sets_place, *words, says="x.h5 has no labels: every answer is void. Annotate more before training."
    )
