"""Whole images as what is asked, classifiers and adversarial training through the commands: chains, kills, refusals."""

import random
import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from commands_support import NETWORK, Step, assert_undisturbed, digest, listing, remove
from damage_support import refuse
from programs import wait_until
from test_commands_plan import make

from stages.artifacts.annotations import Annotations
from stages.artifacts.evaluation import Evaluation
from stages.artifacts.model import Model
from stages.artifacts.pseudo_labels import PseudoLabels
from stages.artifacts.queries import Queries
from stages.artifacts.scores import Scores

pytestmark = pytest.mark.slow

IMAGES = 6  # in the pool
# B = ceil(0.34 * 6), of which 0.7 are the seed set, asked beside it; as many again in every round
BUDGET, SEED, ROUNDS = 3, 2, 2
SPEND = ("--ratio", "0.34", "--seed-share", "0.7", "--query-share", "1")
OF_IMAGES = ("score", "d.h5", "--unit", "image")
SELECT = ("select", "d.h5", "--rule", "top", *SPEND)
SHORT = ("--batch", "2", "--checkpoint-seconds", "0")
LEARN = ("--objective", "image-classes", "--architecture", "classifier", *NETWORK[:4], "--epochs", "1", *SHORT)
ADVERSARIAL = ("--objective", "adversarial", *NETWORK, "--discriminator-width", "4", *SHORT)
STEPS = 4
LONG = ("--epochs", "2", "--steps-per-epoch", "2", "--self-training-from", "1", "--gate", "0.4")
# All classes of an image at once: the seed set and two rounds, then masks of what was asked, and what they teach
CHAIN = {
    "score first": Step((*OF_IMAGES, "--measure", "random", "-o", "is0.h5"), "is0.h5"),
    "select first": Step(
        (*SELECT, "is0.h5", "--rule", "uniform", "--image-answer", "classes", "-o", "iq0.h5"), "iq0.h5"
    ),
    "annotate first": Step(("annotate-simulate", "d.h5", "iq0.h5", "-o", "ia0.h5"), "ia0.h5"),
    "train classifier": Step(
        ("train", "d.h5", "ia0.h5", *LEARN, "-o", "ic.safetensors"),
        "ic.safetensors",
        ("ic.history.csv", "ic.curve.png"),
    ),
    "score": Step(
        (*OF_IMAGES, "--measure", "binary-entropy", "--model", "ic.safetensors", "-o", "is1.h5"),
        "is1.h5",
    ),
    "select": Step(
        (*SELECT, "is1.h5", "--image-answer", "classes", "--annotations", "ia0.h5", "-o", "iq1.h5"), "iq1.h5"
    ),
    "annotate": Step(("annotate-simulate", "d.h5", "iq1.h5", "--annotations", "ia0.h5", "-o", "ia1.h5"), "ia1.h5"),
    "select last": Step(
        (*SELECT, "is1.h5", "--image-answer", "classes", "--annotations", "ia1.h5", "-o", "iq2.h5"), "iq2.h5"
    ),
    "annotate last": Step(("annotate-simulate", "d.h5", "iq2.h5", "--annotations", "ia1.h5", "-o", "ia2.h5"), "ia2.h5"),
    "choose": Step(
        ("select", "d.h5", "is1.h5", "--rule", "answered", "--image-answer", "mask", "--annotations", "ia2.h5",
         "-o", "chosen.h5"),
        "chosen.h5",
    ),
    "masks": Step(("annotate-simulate", "d.h5", "chosen.h5", "--annotations", "ia2.h5", "-o", "masks.h5"), "masks.h5"),
    "train": Step(
        ("train", "d.h5", "masks.h5", *ADVERSARIAL, *LONG, "-o", "im.safetensors"),
        "im.safetensors",
        ("im.history.csv", "im.curve.png"),
    ),
    "pseudo-label": Step(
        ("pseudo-label", "d.h5", "masks.h5", "--method", "gated", "--gate", "0.4", "--model", "im.safetensors",
         "-o", "ip.h5"),
        "ip.h5",
    ),
    "evaluate": Step(("evaluate", "d.h5", "im.safetensors", "-o", "ie.h5"), "ie.h5", ("ie.json",)),
}  # fmt: skip
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture(scope="module")
def image_world(tmp_path_factory, preloaded, world) -> Path:
    """The world with the chain above; never changed by a test."""
    folder = tmp_path_factory.mktemp("images") / "world"
    shutil.copytree(world, folder)
    for step in CHAIN.values():
        preloaded.run(*step.words, cwd=folder).expect(0, out="wrote")
    return folder


@pytest.fixture
def image_place(image_world, tmp_path) -> Path:
    """The test's own copy of the world of images."""
    folder = tmp_path / "place"
    shutil.copytree(image_world, folder)
    return folder


def asked(path: Path) -> list[str]:
    """The ids of the images a file of queries asks about, in rank order."""
    queries = Queries(path)
    return [queries.ids[index] for index in queries.image]


# The chain


def test_the_chain_asks_what_the_budget_says_and_masks_what_was_chosen(image_world):
    rounds = [asked(image_world / f"iq{number}.h5") for number in range(1 + ROUNDS)]
    assert [len(images) for images in rounds] == [SEED, SEED, BUDGET - SEED]
    every = [image for images in rounds for image in images]
    assert len(set(every)) == len(every)
    assert asked(image_world / "chosen.h5") == every[SEED:], "the seed set gets no masks"
    ledger = Annotations(image_world / "masks.h5")
    assert ledger.mask_ids == set(every[SEED:])
    assert len(ledger.image_rows) == len(every)
    scores = Scores(image_world / "is1.h5")
    assert (scores.unit, len(scores.ids)) == ("image", IMAGES)
    values = dict(zip(scores.ids, scores.image_scores(), strict=True))
    left = [image for image in scores.ids if image not in rounds[0]]
    assert rounds[1] == sorted(left, key=values.__getitem__, reverse=True)[:SEED]


def test_what_was_learned_is_what_was_asked_for(image_world):
    classifier, model = Model(image_world / "ic.safetensors"), Model(image_world / "im.safetensors")
    assert classifier.of_images
    assert not classifier.has_discriminator
    assert model.has_discriminator
    assert not model.of_images
    assert model.header.counts["labelled_images"] == BUDGET
    labels = PseudoLabels(image_world / "ip.h5")
    counts = labels.header.counts
    assert counts["masks"] == BUDGET
    assert counts["accepted"] + counts["refused"] == IMAGES - BUDGET
    assert np.isnan(labels.read("images/score")).sum() == BUDGET
    assert Evaluation(image_world / "ie.h5").confusion.sum() > 0


def test_all_of_it_is_whole_and_fresh_and_stays_as_it_is(image_place, preloaded):
    files = [step.output for step in CHAIN.values()]
    done = preloaded.run("verify", *files, cwd=image_place).expect(0)
    assert done.out.count("undamaged and up to date") == len(files)
    before = listing(image_place)
    for step in CHAIN.values():
        preloaded.run(*step.words, cwd=image_place).expect(0, out=f"{step.output} is up to date\n")
    assert listing(image_place) == before


def test_one_class_per_image_and_images_far_apart(image_place, preloaded):
    """The other kind of answer, and the rule that needs what the classifier makes of the images."""
    one = ("--image-answer", "class")
    chain = {
        "oq0.h5": (*SELECT, "is0.h5", "--rule", "uniform", *one),
        "oa0.h5": ("annotate-simulate", "d.h5", "oq0.h5"),
        "oc.safetensors": ("train", "d.h5", "oa0.h5", *LEARN),
        "os.h5": (*OF_IMAGES, "--measure", "entropy", "--model", "oc.safetensors", "--keep-features"),
        "oq1.h5": (*SELECT, "os.h5", "--rule", "k-centre", "--fraction", "1", *one, "--annotations", "oa0.h5"),
        "oa1.h5": ("annotate-simulate", "d.h5", "oq1.h5", "--annotations", "oa0.h5"),
        "oq2.h5": ("select", "d.h5", "os.h5", "--rule", "answered", "--annotations", "oa1.h5"),
        "oa2.h5": ("annotate-simulate", "d.h5", "oq2.h5", "--annotations", "oa1.h5"),
    }
    for output, words in chain.items():
        preloaded.run(*words, "-o", output, cwd=image_place).expect(0, out=f"wrote {output}")
    preloaded.run("verify", *chain, cwd=image_place).expect(0)
    ledger = Annotations(image_place / "oa2.h5")
    assert (ledger.answers.label[ledger.image_rows] < 9).all()
    assert not ledger.names_sets
    assert ledger.mask_ids == set(asked(image_place / "oq1.h5"))
    assert Scores(image_place / "os.h5").image_features().shape[0] == IMAGES


# What people look at


@pytest.mark.parametrize("name", ["is1.h5", "iq1.h5", "ia1.h5", "masks.h5", "im.safetensors", "ip.h5"])
def test_everything_is_described_and_drawn(name, image_place, preloaded):
    words = ["inspect", name] + (["--dataset", "d.h5"] if name == "ip.h5" else [])
    told = preloaded.run(*words, cwd=image_place).expect(0).out
    for kind, word in {"ia1.h5": "image classes", "masks.h5": "class labels", "ip.h5": "images accepted"}.items():
        assert word in told or name != kind
    preloaded.run("inspect", name, "--png", "x.png", cwd=image_place).expect(0, out="wrote x.png")
    assert (image_place / "x.png").read_bytes().startswith(b"\x89PNG")


def test_the_names_of_chosen_images_are_exported(image_place, preloaded):
    for name in ("x.npy", "x.txt"):
        words = ["export-queries", "d.h5", "chosen.h5", "-o", name]
        preloaded.run(*words, cwd=image_place).expect(0, out=f"wrote {name}: {BUDGET} queries")
        preloaded.run(*words, cwd=image_place).expect(0, out=f"{name} is up to date")
    expected = asked(image_place / "chosen.h5")
    assert np.load(image_place / "x.npy", allow_pickle=False).tolist() == expected
    assert (image_place / "x.txt").read_text().splitlines() == expected
    says = (
        "chosen.h5 contains queries of exact labels (mask), which do not fit into a table. Use COCO (.coco.json) or a "
        "folder of PNG."
    )
    refuse(preloaded, image_place, "export-queries", "d.h5", "chosen.h5", "-o", "x.csv", says=says)
    says = "x.npy exists and may contain answers. Remove it, or choose another output."
    refuse(preloaded, image_place, "export-queries", "d.h5", "iq1.h5", "-o", "x.npy", says=says)


# Kills of adversarial training: network, discriminator and both their optimisers go on where they were


@pytest.mark.parametrize("updates", [1, 4, pytest.param(7, marks=pytest.mark.slow)])
def test_sigterm_between_two_updates_changes_nothing(updates, image_place, image_world, preloaded):
    step = CHAIN["train"]
    remove(image_place, step)
    done = preloaded.run(*step.words, cwd=image_place, stop_after=updates)
    if updates > 2 * (STEPS - 1):  # in the last step there is nothing left to stop
        done.expect(0, out="wrote")
    else:
        done.expect(75, err=f"stopped and saved after step {-(-updates // 2)};")
        preloaded.run(*step.words, cwd=image_place).expect(0, out="wrote")
    assert_undisturbed(image_place, image_world, step)


@pytest.mark.parametrize("apart", [13, pytest.param(4, marks=pytest.mark.slow)])
def test_a_rerun_after_kills_at_changes_on_disk_gives_the_same(apart, image_place, image_world, preloaded):
    """Run n dies at a later such change, on top of what the runs before it left, until one gets through."""
    step = CHAIN["train"]
    remove(image_place, step)
    for point in range(5, 300, apart):
        done = preloaded.run(*step.words, cwd=image_place, signal_at=(point, signal.SIGKILL))
        if done.code == 0:
            break
        assert done.code == -signal.SIGKILL, done
    assert point > 5
    preloaded.run(*step.words, cwd=image_place).expect(0, out="up to date")
    assert_undisturbed(image_place, image_world, step)


def test_a_process_killed_after_a_checkpoint_goes_on_from_it(image_place, image_world, preloaded):
    step = CHAIN["train"]
    remove(image_place, step)
    process = preloaded.start(*step.words, cwd=image_place)
    wait_until(lambda: any((image_place / "im.safetensors.work").glob("step*.pt")), "a checkpoint")
    process.send(signal.SIGKILL)
    assert process.finish().code == -signal.SIGKILL
    assert not (image_place / step.output).exists()
    preloaded.run(*step.words, cwd=image_place).expect(0, out="wrote")
    assert_undisturbed(image_place, image_world, step)


def test_after_kills_at_random_moments_the_rerun_gives_the_same(image_place, image_world, preloaded):
    name = "pseudo-label"
    step = CHAIN[name]
    remove(image_place, step)
    began = time.monotonic()
    preloaded.run(*step.words, cwd=image_place).expect(0, out="wrote")
    duration = time.monotonic() - began
    draw, kills = random.Random(f"kills of {name}"), 0
    while kills < 3:
        remove(image_place, step)  # where it was faster than its kill
        process = preloaded.start(*step.words, cwd=image_place)
        time.sleep(draw.uniform(0, duration))
        process.send(signal.SIGKILL)
        kills += process.finish().code == -signal.SIGKILL
    preloaded.run(*step.words, cwd=image_place).expect(0)
    assert_undisturbed(image_place, image_world, step)


def test_another_folder_and_another_order_of_options_give_the_same(image_world, tmp_path, preloaded):
    """From nothing but the dataset and the ledger."""
    for name in ("d.h5", "masks.h5"):
        shutil.copy(image_world / name, tmp_path)
    words = ("train", "d.h5", "masks.h5", "-o", "x.safetensors", *LONG, *ADVERSARIAL)
    preloaded.run(*words, cwd=tmp_path).expect(0, out="wrote")
    assert digest(tmp_path / "x.safetensors") == digest(image_world / "im.safetensors")


# Refusals

OUT, OUT_MODEL = ("-o", "x.h5"), ("-o", "x.safetensors")
GATED = ("pseudo-label", "d.h5", "--method", "gated", *OUT)
SCORED = ("score", "d.h5", *OUT)
AGAIN = (*SELECT, "is1.h5", "--image-answer", "classes", *OUT)


OF_WHOLE_IMAGES = "ic.safetensors predicts classes of whole images. Pass a segmentation model."


@pytest.mark.parametrize(
    "words, says",
    [
        (("evaluate", "d.h5", "ic.safetensors", *OUT), OF_WHOLE_IMAGES),
        ((*SCORED, "--model", "ic.safetensors", "--measure", "entropy"), OF_WHOLE_IMAGES),
        (("inspect", "ic.safetensors", "--png", "x.png"), OF_WHOLE_IMAGES),
        (
            (*OF_IMAGES, "--model", "ic.safetensors", "--measure", "entropy", *OUT),
            "names all classes of an image, which entropy does not measure. Use binary-entropy, binary-margin.",
        ),
        ((*GATED, "masks.h5", "--model", "ic.safetensors"), OF_WHOLE_IMAGES),
        (
            (*GATED, "masks.h5", "--model", "m.safetensors"),
            "m.safetensors has no discriminator. Train one with --objective adversarial.",
        ),
        (
            (*GATED, "ia2.h5", "--model", "im.safetensors"),
            "ia2.h5 contains no full masks, which method gated needs. Query masks of images first.",
        ),
        (
            ("train", "d.h5", "ia2.h5", *ADVERSARIAL, *OUT_MODEL),
            "ia2.h5 has no full masks, which objective adversarial learns from. Query them with --image-answer mask.",
        ),
        (
            ("train", "d.h5", "a0.h5", *ADVERSARIAL, *OUT_MODEL),
            "a0.h5 has no full masks, which objective adversarial learns from. Query them with --image-answer mask.",
        ),
        (
            ("train", "d.h5", "ip.h5", *ADVERSARIAL, *OUT_MODEL),
            "ip.h5 holds pseudo_labels, but objective adversarial learns from annotations. Pass a ledger.",
        ),
        (
            ("train", "d.h5", "ia2.h5", *NETWORK, *OUT_MODEL),
            "ia2.h5 has no labels of pixels, only classes of images.",
        ),
        (
            ("train", "d.h5", "a0.h5", *LEARN, *OUT_MODEL),
            "a0.h5 has no classes of images. Query them with --image-answer class.",
        ),
        (("train", "d.h5", "ia0.h5", *LEARN, "--architecture", "lraspp", *OUT_MODEL), "predicts classes of pixels"),
        (
            ("train", "d.h5", "ia0.h5", *LEARN, "--model", "m.safetensors", *OUT_MODEL),
            "m.safetensors predicts a class per pixel. Start from a model of the same kind.",
        ),
        (
            ("train", "d.h5", "masks.h5", *ADVERSARIAL, "--model", "ic.safetensors", *OUT_MODEL),
            "ic.safetensors predicts classes of whole images. Start from a model of the same kind.",
        ),
        ((*AGAIN, "--annotations", "ia2.h5", "--seed-share", "none"), "query-share does not apply to seed-share none"),
        (
            (*AGAIN, "--annotations", "ia1.h5", "--rule", "k-centre"),
            "is1.h5 has no features of images. Score with --unit image, a classifier as --model and --keep-features.",
        ),
        ((*AGAIN, "--annotations", "ia1.h5", "--rule", "reverse"), "rule"),
        (
            (*AGAIN, "--rule", "answered", "--annotations", "ia2.h5"),
            "--rule answered queries masks. Set --image-answer mask.",
        ),
        (
            (*AGAIN, "--rule", "answered", "--image-answer", "mask"),
            "No image has an answered class yet. Pass --annotations with answers about classes of images.",
        ),
        ((*AGAIN, "--ratio", "0.9", "--seed-share", "1"), "images"),
        (
            ("annotate-simulate", "d.h5", "iq1.h5", *OUT),
            "iq1.h5: these queries were selected with a ledger. Pass the --annotations that select was run with.",
        ),
        (
            ("annotate-simulate", "d.h5", "iq0.h5", "--error-rate", "0.5", *OUT),
            "error-rate does not apply to answer",
        ),
        (
            ("import-answers", "d.h5", "iq0.h5", "x.csv", *OUT),
            "Cannot read x.csv: No such file or directory. Pass the file or folder with the answers.",
        ),
    ],
)
def test_what_does_not_go_together(words, says, image_place, preloaded):
    done = refuse(preloaded, image_place, *words, says=says)
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith("error: ")


@pytest.mark.parametrize(
    "words, says",
    [
        (("ia2.h5",), "The budget of 3 images is spent. Query their masks with --rule answered, or raise --ratio.\n"),
        (
            ("masks.h5", "--rule", "answered", "--image-answer", "mask"),
            "Nothing left to query: every image with an answered class already has a mask.\n",
        ),
    ],
)
def test_nothing_is_left_to_query(words, says, image_place, preloaded):
    assert refuse(preloaded, image_place, *AGAIN, "--annotations", *words, says=says, code=3).err == says


# Planned runs

PLAN = ("plan", "als4gan", "d.h5", "--profile", "scenes", "--run", "run", "-o", "run.mk")
SPENT = [word for name, value in zip(SPEND[::2], SPEND[1::2], strict=True)
         for word in ("--set", f"select.{name[2:]}={value}")]  # fmt: skip
ROUND = ("scores.h5", "queries.h5", "annotations.h5", "classifier.safetensors")
END = {
    "run/chosen.h5": {"run/round-2/scores.h5", "run/round-2/annotations.h5"},
    "run/masks.h5": {"run/chosen.h5", "run/round-2/annotations.h5"},
    "run/model.safetensors": {"run/masks.h5"},
    "run/evaluation.h5": {"run/model.safetensors"},
}


def rules(folder: Path) -> dict[str, set[str]]:
    """The targets of the Makefile and what each depends on besides the dataset."""
    lines = (folder / "run.mk").read_text().replace("$(RUN)", "run").splitlines()
    found = dict(line.split(": ") for line in lines if re.match(r"run/\S+: ", line))
    return {target: set(needs.split()) - {"$(DATASET)"} for target, needs in found.items()}


def to_do(folder: Path, *words: str) -> list[str]:
    """The targets that make would build, in order."""
    shown = make("-n", *words, cwd=folder, program="alseg").expect(0).out.replace("\\\n", "")
    return [line.split(" -o ")[1].split()[0] for line in shown.splitlines() if line.strip().startswith("alseg ")]


@pytest.fixture
def planned(world, tmp_path, preloaded) -> Path:
    """A folder with a dataset and the Makefile of as many rounds as the budget takes."""
    shutil.copy(world / "d.h5", tmp_path)
    done = preloaded.run(*PLAN, *SPENT, cwd=tmp_path)
    done.expect(0, out=f"wrote run.mk: {4 * (1 + ROUNDS) + len(END)} rules, {1 + ROUNDS} rounds")
    return tmp_path


def test_the_budget_decides_the_rounds_and_the_end_comes_once(planned):
    found = rules(planned)
    assert set(found) == {f"run/round-{number}/{name}" for number in range(1 + ROUNDS) for name in ROUND} | set(END)
    assert {target: found[target] for target in END} == END
    assert found["run/round-1/scores.h5"] == {"run/round-0/classifier.safetensors"}
    assert found["run/round-1/classifier.safetensors"] == {
        "run/round-1/annotations.h5", "run/round-0/classifier.safetensors"
    }  # fmt: skip


@needs_make
def test_make_builds_the_evaluation_from_what_it_needs(planned):
    order = to_do(planned)
    assert order[-len(END) :] == list(END)
    last = f"run/round-{ROUNDS}/classifier.safetensors"
    assert set(order) == set(rules(planned)) - {last}, "nobody needs a classifier after the last round"
    for target, needs in rules(planned).items():
        assert target not in order or all(order.index(need) < order.index(target) for need in needs)
    for target in order:
        (planned / target).parent.mkdir(parents=True, exist_ok=True)
        (planned / target).touch()
    assert to_do(planned) == []
    assert to_do(planned, "-W", "run/chosen.h5") == ["run/masks.h5", "run/model.safetensors", "run/evaluation.h5"]
    second = to_do(planned, "-W", "run/round-1/annotations.h5")
    assert second[0].startswith("run/round-1/")
    assert second[-len(END) :] == list(END)
    assert not any(target.startswith("run/round-0/") for target in second)


@pytest.mark.parametrize(
    "words, says",
    [
        (("--set", "select.ratio=none"), "set select.ratio and select.seed_share"),
        (("--set", "select.seed_share=none"), "set select.ratio and select.seed_share"),
        (("--set", "select.ratio=1"), "The budget does not fit"),
        (("--set", "score.split=nowhere"), "has no split 'nowhere'"),
    ],
)
def test_rounds_that_no_budget_gives(words, says, planned, preloaded):
    refuse(preloaded, planned, *PLAN, *words, says=says)


def test_a_plan_needs_the_dataset_whatever_the_rounds(tmp_path, preloaded):
    words = [*PLAN[:2], "absent.h5", *PLAN[3:]]
    refuse(preloaded, tmp_path, *words, says="absent.h5")
    refuse(preloaded, tmp_path, *words, "--rounds", 2, says="absent.h5")
