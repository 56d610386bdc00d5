"""The acceptance checks of the ALS4GAN specification (als4gan.md, section 9), through the stages, by their numbers.

Checks 1 to 5 are in tests/acquisition/test_image_measures.py and test_image_budget.py, 9 and 10 in tests/datasets, the
numbers of 12 to 17 and of 19 and 20 in tests/supervision/test_adversarial_losses.py, 18 and 24 in tests/networks, 21 in
tests/evaluating/test_confusion_variants.py.
"""

import csv
import json
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import tasks
import torch
from PIL import Image
from torch import nn
from worlds import TINY, write_dataset, write_superpixels

from stages.artifacts.annotations import Annotations
from stages.artifacts.answers import ANSWERED, ANSWERED_VOID, COLUMNS, Answers
from stages.artifacts.dataset import Dataset
from stages.artifacts.evaluation import Evaluation
from stages.artifacts.model import Model
from stages.artifacts.opening import open_any, read_any_header
from stages.artifacts.pseudo_labels import PseudoLabels
from stages.artifacts.queries import Queries
from stages.artifacts.scores import Scores
from stages.commands import (
    annotate_simulate,
    evaluate,
    extract_superpixels,
    prepare,
    pseudo_label,
    score,
    select,
    train,
)
from stages.datasets.description import load_description
from stages.evaluating.confusion import mean_iou
from stages.networks.classifier import ImageClassifier
from stages.networks.discriminator import Discriminator
from stages.networks.predictor import Predictor, load_predictor
from stages.pixels.void import VOID
from stages.recipes.plan import build_rules, read_plan, rounds_of_budget, takes_place
from stages.recipes.profile import load_profile
from stages.recipes.recipe import load_recipe
from stages.recipes.resolve import step_settings
from stages.registry import SETTINGS
from stages.runtime.console import Progress
from stages.runtime.errors import BadInput, Stopped
from stages.runtime.parts import RULES
from stages.runtime.randomness import stream
from stages.selecting.chooser import Chooser
from stages.selecting.image_budget import image_budget
from stages.selecting.images import choose_images
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.evaluate import EvaluateSettings
from stages.settings.extract_superpixels import ExtractSettings
from stages.settings.prepare import PrepareSettings
from stages.settings.pseudo_label import PseudoLabelSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings
from stages.settings.train import TrainSettings
from stages.training.learners.adversarial import AdversarialLearner
from stages.training.learners.adversarial_losses import total_loss
from stages.training.samples.images import ImageSamples, image_targets
from stages.training.samples.streams import STREAMS, StreamBatch, StreamSamples, collate_part
from stages.training.window import Scales, Window, crop_image, crop_labels

CLASSES = 3
SIDE = 64
COLOURS = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]])
RATIO = {"ratio": 0.35}  # of 20 images
SHARES = {"seed_share": 0.5, "query_share": 0.5}
BUDGET, SEED, SIZES = 7, 3, [3, 2, 2, 2, 1]
ROUNDS = len(SIZES)
SMALL = {
    "scores": {"device": "cpu"},
    "queries": RATIO,
    "chosen": RATIO | SHARES,
    "classifier": TINY | {"epochs": 1},
    "model": TINY
    | {"epochs": 2, "steps_per_epoch": 3, "crop": (SIDE, SIDE), "output_stride": 16, "aspp_rates": (1, 2)}
    | {"discriminator_width": 4, "self_training_from": 3, "gate": 0.3, "validate_every": 1},
    "evaluation": {"device": "cpu"},
}


def settings_of(name, number=0, recipe="als4gan", **own):
    """The settings of the step ``name`` of a recipe in round ``number``, but small."""
    found = load_recipe(recipe)
    step = next(
        each for each in found.steps if each.name == name and (each.rounds == "end" or takes_place(each, number))
    )
    values = step_settings(found, load_profile(None), step).flat()
    return SETTINGS[step.stage].load(own, offered=values | SMALL.get(name, {}))


def patchwork(number):
    """An image of patches in the colours of their classes with noise, and its mask with some void."""
    generator = stream(number, "patchwork")
    shares = generator.dirichlet(np.ones(CLASSES))
    mask = generator.choice(CLASSES, (4, 4), p=shares).repeat(16, 0).repeat(16, 1).astype(np.uint8)
    image = np.clip(COLOURS[mask] + generator.integers(-40, 41, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
    mask[:8, :24] = VOID
    return image, mask


def made_of(path, pairs, classes):
    """A dataset of (image, mask) pairs; the first letter of an id tells its split: t, v, x for train, val, test."""
    splits = {name: {"t": "train", "v": "val", "x": "test"}[name[0]] for name in pairs}
    images, masks = ({name: pair[place] for name, pair in pairs.items()} for place in (0, 1))
    return write_dataset(path, masks, classes, splits, images)


def answered(folder, dataset, name, before=None, annotate=None, **asked):
    """A round about whole images that are drawn at random; all of them where nothing else is said."""
    scores = score.run(dataset, folder / "random.h5", ScoreSettings(unit="image", measure="random"))
    chosen = SelectSettings(**{"rule": "uniform", "budget": 0} | asked)
    queries = select.run(dataset, scores, folder / f"{name}-queries.h5", chosen, before)
    return annotate_simulate.run(dataset, queries, folder / f"{name}.h5", AnnotateSettings(**annotate or {}), before)


def chain(folder, dataset, rounds=ROUNDS, **own):
    """The recipe stage by stage; every artifact by its name. ``own`` are settings of the scores."""
    made, ledger, classifier = {}, None, None
    for number in range(rounds):
        by_network = own if number else {}  # round 0 is random
        scored, chosen = settings_of("scores", number, **by_network), settings_of("queries", number, **SHARES)
        scores = score.run(dataset, folder / f"scores{number}.h5", scored, classifier)
        queries = select.run(dataset, scores, folder / f"queries{number}.h5", chosen, ledger)
        answers = settings_of("annotations", number)
        ledger = annotate_simulate.run(dataset, queries, folder / f"ledger{number}.h5", answers, ledger)
        made |= {f"scores{number}": scores, f"queries{number}": queries, f"ledger{number}": ledger}
        if number < rounds - 1:
            output, fit = folder / f"classifier{number}.safetensors", settings_of("classifier", number)
            classifier = made[f"classifier{number}"] = train.run(dataset, ledger, output, fit, classifier)
    return made


def names(queries):
    """Ids of the images asked about, in rank order."""
    found = Queries(queries)
    return [found.ids[index] for index in found.image]


def digest(path):
    return read_any_header(path).digest


def history(model):
    """The rows of the history beside a model, as numbers; what is empty is left out."""
    with model.with_name(f"{model.stem}.history.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def changed(dataset, path, change):
    """A copy of ``dataset`` changed by ``change(file)``; its header, and so its digest, stays as it was."""
    shutil.copy(dataset, path)
    with h5py.File(path, "r+") as file:
        change(file)
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """20 training images, a seed set of 3, and 4 rounds for the 7 that get masks; then adversarial training on them."""
    folder = tmp_path_factory.mktemp("world")
    ids = [*(f"t{number:02}" for number in range(20)), "v0", "v1", "x0", "x1"]
    dataset = made_of(folder / "d.h5", {name: patchwork(number) for number, name in enumerate(ids)}, CLASSES)
    made = {"folder": folder, "dataset": dataset} | chain(folder, dataset)
    last = made[f"scores{ROUNDS - 1}"], made[f"ledger{ROUNDS - 1}"]
    made["chosen"] = select.run(dataset, last[0], folder / "chosen.h5", settings_of("chosen"), last[1])
    answers = settings_of("masks")
    made["masks"] = annotate_simulate.run(dataset, made["chosen"], folder / "masks.h5", answers, last[1])
    made["model"] = train.run(dataset, made["masks"], folder / "model.safetensors", settings_of("model"))
    return made


@pytest.fixture(scope="module")
def blind(world):
    """The dataset without any mask of a training image, and with labels of images that are none."""

    def change(file):
        for name in list(file["masks"]):
            if name.startswith("t"):
                del file[f"masks/{name}"]
        file["index/label"][:] = 0

    return changed(world["dataset"], world["folder"] / "blind.h5", change)


# --- selection --------------------------------------------------------------------------------------------------------


def test_check_6_rounds_ask_for_the_budget_and_for_no_image_twice(world):
    asked = [names(world[f"queries{number}"]) for number in range(ROUNDS)]
    assert [len(each) for each in asked] == SIZES  # the last round asks for what is left of the budget alone
    with Dataset(world["dataset"]) as data:
        pool = set(data.ids("train"))
    for each in asked:
        assert len(set(each)) == len(each)
        assert set(each) <= pool
        pool -= set(each)
    plan = read_plan("als4gan", None, [f"select.{name}={value}" for name, value in (RATIO | SHARES).items()])
    with Dataset(world["dataset"]) as data:
        assert rounds_of_budget(plan, data) == ROUNDS
    assert Queries(world["queries1"]).header.counts["rounds"] == ROUNDS - 1


def test_the_last_answers_train_no_classifier():
    """Nothing that make is asked for needs it (section 2.3)."""
    rules = {rule.target: rule for rule in build_rules(read_plan("als4gan"), ROUNDS, [])}
    left, needed = ["$(RUN)/evaluation.h5"], set()
    while left:
        needed.add(target := left.pop())
        left += [need for need in rules[target].needs if need in rules]
    fits = {target for target in rules if target.endswith("classifier.safetensors")}
    assert len(fits) == ROUNDS
    assert fits - needed == {f"$(RUN)/round-{ROUNDS - 1}/classifier.safetensors"}


def test_check_6_every_round_asks_for_the_most_uncertain_of_what_is_left(world):
    """By the classifier before, ties by id; the seed set is drawn."""
    gone = set(names(world["queries0"]))
    assert Queries(world["queries0"]).attributes["measure"] == "random"
    for number in range(1, ROUNDS):
        scores = Scores(world[f"scores{number}"])
        assert scores.header.inputs["model"].digest == digest(world[f"classifier{number - 1}"])
        order = sorted(zip(-scores.image_scores(), scores.ids, strict=True))
        left = [image for _, image in order if image not in gone]
        found = Queries(world[f"queries{number}"])
        assert names(world[f"queries{number}"]) == left[: SIZES[number]]
        assert found.attributes["measure"] == "entropy"
        values = dict(zip(scores.ids, scores.image_scores(), strict=True))
        asked = names(world[f"queries{number}"])
        assert found.read("queries/score") == pytest.approx([values[image] for image in asked])
        gone |= set(left[: SIZES[number]])


def test_check_6_the_chosen_are_what_was_asked_after_the_seed_set(world):
    chosen, ledger = names(world["chosen"]), Annotations(world["masks"])
    assert chosen == [image for number in range(1, ROUNDS) for image in names(world[f"queries{number}"])]
    assert len(set(chosen)) == len(chosen) == BUDGET
    assert not set(chosen) & set(names(world["queries0"]))
    assert ledger.mask_ids == set(chosen) == set(ledger.labelled_ids())
    samples = tasks.samples_of(world["dataset"], world["masks"], settings_of("model"), StreamSamples)
    with Dataset(world["dataset"]) as data:
        assert sorted(samples.ids + samples.unlabelled) == data.ids("train")
    assert samples.ids == sorted(chosen)
    assert Model(world["model"]).header.counts["labelled_images"] == BUDGET


def test_check_6_same_seed_same_queries(world, tmp_path):
    """However many images are scored together; another seed draws another seed set."""
    made = chain(tmp_path, world["dataset"], 3, batch=3)
    for name, path in made.items():
        assert digest(path) == digest(world[name]), name
    again = settings_of("queries", 0, **SHARES, seed=1)
    drawn = select.run(world["dataset"], made["scores0"], tmp_path / "other.h5", again)
    assert set(names(drawn)) != set(names(world["queries0"]))


@pytest.mark.parametrize("counts, sizes", [(False, SIZES), (True, [3, 2, 2])])
def test_check_6_the_seed_set_counts_if_asked_for_and_a_spent_budget_is_refused(world, tmp_path, counts, sizes):
    dataset, ledger, asked, shares = world["dataset"], None, [], SHARES | {"seed_in_selection": counts}
    scores = score.run(dataset, tmp_path / "s.h5", settings_of("scores"))
    for number in range(len(sizes)):
        chosen = settings_of("queries", number, **shares)
        queries = select.run(dataset, scores, tmp_path / f"q{number}.h5", chosen, ledger)
        ledger = annotate_simulate.run(dataset, queries, tmp_path / f"l{number}.h5", AnnotateSettings(), ledger)
        asked.append(names(queries))
    assert [len(each) for each in asked] == sizes
    with pytest.raises(BadInput, match=r"budget of 7 images is spent\. Query their masks with --rule answered"):
        select.run(dataset, scores, tmp_path / "more.h5", settings_of("queries", 9, **shares), ledger)
    found = names(select.run(dataset, scores, tmp_path / "c.h5", settings_of("chosen", **shares), ledger))
    assert found == [image for each in asked[0 if counts else 1 :] for image in each]
    assert len(found) == BUDGET


def test_check_6_the_random_arm_has_the_same_budget(world, tmp_path):
    chosen = settings_of("queries", recipe="s4gan-random")
    flat = chosen.settled("scores", unit="image").flat()
    assert (flat["rule"], flat["image_answer"], flat["seed_share"]) == ("uniform", "mask", None)
    found = set()
    for seed in (0, 1):
        scores = score.run(world["dataset"], tmp_path / f"s{seed}.h5", settings_of("scores", recipe="s4gan-random"))
        asked = settings_of("queries", recipe="s4gan-random", seed=seed)
        queries = select.run(world["dataset"], scores, tmp_path / f"q{seed}.h5", asked)
        assert len(set(names(queries))) == len(Queries(queries)) == BUDGET
        found.add(frozenset(names(queries)))
    assert len(found) == 2


class Known(SimpleNamespace):
    """As much of scores or of a ledger as choosing needs."""


def ledger_of(ids, rounds):
    """A ledger in which image-level answers came about the images ``rounds`` (a list of them per round)."""
    number = [number for number, images in enumerate(rounds) for _ in images]
    image = [index for images in rounds for index in images]
    answers = Answers.of(len(image), 6, image=image, round=number, label=0, image_level=1)
    return Known(ids=ids, answers=answers, image_rows=np.arange(len(image)), mask_ids=set())


def choose(scores, ledger, number, **values):
    settings = SelectSettings.load(values).settled("scores", unit="image")
    rule = Chooser(RULES[settings.rule], settings.of_rule, number)
    return choose_images(scores, ledger, settings.image, settings.budget, rule)


def test_check_6_rounds_of_642_images():
    """DeepGlobe at 5 %: 16 rounds of two and one of one, where the reference queries 34 and drops one."""
    ids, generator = [f"{number:03}" for number in range(642)], stream(0, "642")
    spend = {"ratio": 0.05, "seed_share": 0.1, "query_share": 0.5}
    asked = []
    for number in range(18):
        values = generator.random(642)
        scores = Known(ids=ids, image_scores=lambda values=values: values)
        ledger = ledger_of(ids, asked) if asked else None
        found, counts = choose(scores, ledger, number, rule="top", image_answer="class", **spend)
        asked.append(found["image"].tolist())
        assert (counts["budget"], counts["seed"], counts["rounds"]) == (33, 3, 17)
    assert [len(each) for each in asked] == [3, *[2] * 16, 1]
    with pytest.raises(BadInput, match="spent"):
        choose(scores, ledger_of(ids, asked), 18, rule="top", image_answer="class", **spend)
    found, _ = choose(scores, ledger_of(ids, asked), 18, rule="answered", **spend)
    assert found["image"].tolist() == [image for each in asked[1:] for image in each]
    assert len(choose(scores, None, 0, rule="uniform", ratio=0.05)[0]["image"]) == 33


def test_masks_can_be_asked_for_round_by_round_too(world, tmp_path):
    """Then masks are what counts for the budget."""
    dataset, ledger, sizes = world["dataset"], None, []
    for number in range(ROUNDS):
        ledger = answered(tmp_path, dataset, f"m{number}", ledger, image_answer="mask", **RATIO, **SHARES)
        sizes.append(int((Annotations(ledger).answers.round == number).sum()))
    assert sizes == SIZES
    with pytest.raises(BadInput, match="spent"):
        answered(tmp_path, dataset, "more", ledger, image_answer="mask", **RATIO, **SHARES)


@pytest.mark.parametrize("ratio, images", [(0.6, 12), (1.0, 20)])
def test_without_a_seed_set_the_budget_may_be_all_there_is(world, tmp_path, ratio, images):
    ledger = answered(tmp_path, world["dataset"], "all", image_answer="mask", ratio=ratio)
    assert len(Annotations(ledger).mask_ids) == images


def test_a_budget_that_the_images_do_not_suffice_for_is_refused(world, tmp_path):
    with pytest.raises(BadInput, match="lower the ratio or the seed share"):
        answered(tmp_path, world["dataset"], "all", image_answer="class", ratio=1.0, seed_share=0.1)


# --- leaks ------------------------------------------------------------------------------------------------------------


def test_check_7_scores_and_queries_read_no_label(world, blind, tmp_path):
    scores = score.run(blind, tmp_path / "s.h5", settings_of("scores", 1), world["classifier0"])
    assert digest(scores) == digest(world["scores1"])
    queries = select.run(blind, scores, tmp_path / "q.h5", settings_of("queries", 1, **SHARES), world["ledger0"])
    assert digest(queries) == digest(world["queries1"])

    def unnamed(file):
        file["index/label"][:] = -1

    nameless = changed(blind, tmp_path / "nameless.h5", unnamed)
    with pytest.raises(BadInput, match="no mask for image"):  # so they are gone
        annotate_simulate.run(nameless, queries, tmp_path / "l.h5", AnnotateSettings(), world["ledger0"])


def test_check_7_training_opens_no_mask_but_those_of_the_ledger(world, blind, tmp_path):
    """Neither of the classifier, which has none, nor of the segmentation network, whose other images have none."""
    fit = train.run(
        blind, world["ledger0"], tmp_path / "c.safetensors", settings_of("classifier", validation_split="none")
    )
    seen = settings_of("classifier", validation_split="none")
    assert digest(fit) == digest(train.run(world["dataset"], world["ledger0"], tmp_path / "d.safetensors", seen))
    model = train.run(blind, world["masks"], tmp_path / "m.safetensors", settings_of("model"))
    assert digest(model) == digest(world["model"])
    gated = PseudoLabelSettings(method="gated", gate=0.3, device="cpu")
    found = {
        digest(pseudo_label.run(dataset, world["masks"], model, tmp_path / f"{number}.h5", gated))
        for number, dataset in enumerate((blind, world["dataset"]))
    }
    assert len(found) == 1


# --- answers ----------------------------------------------------------------------------------------------------------

DESCRIPTION = """
name = "scenes"
classes = [{ name = "sand", color = [0, 0, 9] }, { name = "grass", color = [9, 0, 0] }]
masks = { ignore = [255] }
[splits.train]
images = "images/{id}.png"
masks = "masks/{id}.png"
[image_labels]
source = "name"
"""
SCENES = load_description("ucm-dlrsd").image_classes


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """Four images that say in their names what they show; their class is another thing than those of pixels."""
    folder = tmp_path_factory.mktemp("named")
    for name in ("tenniscourt07", "agricultural00", "beach03", "river01"):
        image, mask = patchwork(len(name))
        for kind, array in (("images", image), ("masks", np.where(mask == VOID, VOID, mask % 2).astype(np.uint8))):
            (folder / kind).mkdir(exist_ok=True)
            Image.fromarray(array).save(folder / kind / f"{name}.png")
    (folder / "scenes.toml").write_text(DESCRIPTION + f"classes = {json.dumps(SCENES)}\n")
    dataset = prepare.run(str(folder / "scenes.toml"), folder, folder / "d.h5", PrepareSettings(workers=1))
    return folder, dataset, answered(folder, dataset, "ledger", image_answer="class")


def test_check_8_classes_by_name_reach_the_classifier(named):
    folder, dataset, path = named
    ledger = Annotations(path)
    found = {
        ledger.ids[image]: int(label) for image, label in zip(ledger.answers.image, ledger.answers.label, strict=True)
    }
    assert found == {"tenniscourt07": 20, "agricultural00": 0, "beach03": 3, "river01": 16}
    assert ledger.image_classes == SCENES
    assert ledger.header.counts["last_round"]["per_class"]["tenniscourt"] == 1
    assert ledger.answers.clicks.tolist() == [1] * 4
    assert {name: int(label) for name, label in image_targets(ledger).items()} == found
    model = train.run(dataset, path, folder / "m.safetensors", settings_of("classifier"))
    assert Model(model).outputs == 21
    scores = Scores(score.run(dataset, folder / "s.h5", settings_of("scores", 1), model))
    p = scores.read("images/probability").astype(np.float64)
    assert p.shape == (4, 21)
    assert p.sum(1) == pytest.approx(1, abs=1e-5)  # check 4: of one softmax
    assert scores.image_scores() == pytest.approx(-(p * np.log(p)).sum(1), abs=1e-5)


def halves(*parts):
    """A mask of 10x10 whose pixels are the given (class, number) one after the other."""
    return np.concatenate([np.full(number, name, np.uint8) for name, number in parts]).reshape(10, 10)


MASKS = {
    "water": halves((4, 60), (3, 40)),
    "tie": halves((5, 30), (2, 30), (VOID, 40)),
    "unknown": halves((VOID, 100)),
    "rare": halves((1, 76), (0, 4), (VOID, 20)),
}


def test_check_8_the_majority_is_the_class_and_an_unknown_image_teaches_nothing(tmp_path):
    dataset = write_dataset(tmp_path / "d.h5", MASKS, 6)
    ledger = Annotations(answered(tmp_path, dataset, "one", image_answer="class"))
    answers = {ledger.ids[image]: row for row, image in enumerate(ledger.answers.image)}
    labels = {name: int(ledger.answers.label[row]) for name, row in answers.items()}
    assert labels == {"water": 4, "tie": 2, "unknown": VOID, "rare": 1}
    assert ledger.answers.state[answers["unknown"]] == ANSWERED_VOID
    assert (ledger.answers.clicks == 1).all()
    assert ledger.header.counts["void"] == 1
    assert image_targets(ledger).keys() == {"water", "tie", "rare"}
    assert ledger.labelled_ids() == []  # of pixels none is labelled
    alone = write_dataset(tmp_path / "u.h5", {"unknown": MASKS["unknown"]}, 6)
    (tmp_path / "alone").mkdir()
    nothing = answered(tmp_path / "alone", alone, "one", image_answer="class")
    with pytest.raises(BadInput, match="has no classes of images: every answer is void"):
        train.run(alone, nothing, tmp_path / "m.safetensors", settings_of("classifier"))


@pytest.mark.parametrize("share, rare", [(0.05, [0, 1]), (0.051, [1]), (0.0, [0, 1])])
def test_check_8_all_classes_in_an_image_cost_a_click_each(tmp_path, share, rare):
    """4 of 80 known pixels are a share of 0.05."""
    dataset = write_dataset(tmp_path / "d.h5", MASKS, 6)
    path = answered(tmp_path, dataset, "all", image_answer="classes", annotate={"presence_share": share})
    ledger = Annotations(path)
    sets = {ledger.ids[image]: ledger.answers.class_sets[row] for row, image in enumerate(ledger.answers.image)}
    found = {name: np.flatnonzero(row).tolist() for name, row in sets.items()}
    assert found == {"water": [3, 4], "tie": [2, 5], "unknown": [], "rare": rare}
    for row, image in enumerate(ledger.answers.image):
        named = len(found[ledger.ids[image]])
        assert ledger.answers.clicks[row] == ledger.answers.seconds[row] == max(named, 1)
        assert ledger.answers.state[row] == (ANSWERED if named else ANSWERED_VOID)
    assert ledger.names_sets
    masks = Annotations(answered(tmp_path, dataset, "masks", path, rule="answered", image_answer="mask"))
    assert (masks.answers.class_sets[:4] == ledger.answers.class_sets).all()
    assert not masks.answers.class_sets[4:].any()
    assert all((masks.label_map(name) == mask).all() for name, mask in MASKS.items())


def test_check_8_one_ledger_carries_classes_and_masks_side_by_side(world, tmp_path):
    before, after = Annotations(world[f"ledger{ROUNDS - 1}"]), Annotations(world["masks"])
    old = len(before.answers)
    assert old == SEED + BUDGET
    for column in COLUMNS:
        assert (getattr(after.answers, column)[:old] == getattr(before.answers, column)).all()
    answers = after.answers
    assert answers.image_level.tolist() == [1] * old + [0] * BUDGET
    assert answers.clicks.tolist() == [1] * old + [1713] * BUDGET
    assert answers.round.tolist() == [n for n, size in enumerate(SIZES) for _ in range(size)] + [ROUNDS] * BUDGET
    assert after.cost() == {"answers": old + BUDGET, "clicks": old + 1713 * BUDGET, "seconds": old + 5400 * BUDGET}
    assert Model(world["model"]).header.counts["clicks"] == old + 1713 * BUDGET
    with Dataset(world["dataset"]) as data:
        for image in after.mask_ids:
            assert (after.label_map(image) == data.mask(image)).all()
        for row in range(old):
            counts = np.bincount(data.mask(after.ids[answers.image[row]]).ravel(), minlength=256)[:CLASSES]
            assert answers.label[row] == counts.argmax()
    cheap = settings_of("masks", clicks_per_mask=20.0)
    ledger = f"ledger{ROUNDS - 1}"
    path = annotate_simulate.run(world["dataset"], world["chosen"], tmp_path / "m.h5", cheap, world[ledger])
    assert Annotations(path).cost()["clicks"] == old + 20 * BUDGET


# --- samples ----------------------------------------------------------------------------------------------------------

FACTORS = [number / 10 for number in range(5, 17)]
CODED = 50  # side of the images; every factor makes it a whole number of pixels


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
    """Images of 50x50 whose grey is 20 + 60 times the class; three of six have masks, all have a class."""
    folder, pairs = tmp_path_factory.mktemp("coded"), {}
    for number in range(6):
        mask = stream(number, "coded").integers(0, 4, (2, 2)).repeat(25, 0).repeat(25, 1).astype(np.uint8)
        pairs[f"t{number}"] = np.repeat(20 + 60 * mask[..., None], 3, 2), mask
    dataset = made_of(folder / "d.h5", pairs, 4)
    classes = answered(folder, dataset, "classes", image_answer="class")
    return dataset, answered(folder, dataset, "masks", classes, image_answer="mask", budget=3)


def samples_of(kind, coded, **own):
    own |= {"crop": (80, 80), "scale_step": 0.1, "scale_range": (0.5, 1.6)}
    return tasks.samples_of(*coded, settings_of("classifier" if kind is ImageSamples else "model", **own), kind)


def keys_of(samples):
    """What the samples are asked for, 30 times each."""
    if isinstance(samples, ImageSamples):
        return [(index, turn) for index in range(len(samples)) for turn in range(30)]
    return [(name, index, turn) for name in STREAMS for index in range(3) for turn in range(30)]


def test_check_11_scales_are_those_of_the_recipe():
    fit = settings_of("classifier").augmentation
    assert Scales(*fit.scale_range, fit.scale_step).choices() == pytest.approx(FACTORS)
    model = settings_of("model").augmentation  # mirrored, not scaled
    assert (model.scale_range, model.flip) == ((1, 1), 0.5)


def test_check_11_samples_are_scaled_padded_and_aligned(coded):
    """Where the sample is no padding the grey tells the label, but for pixels between two classes."""
    samples, found = samples_of(StreamSamples, coded), set()
    for key in keys_of(samples):
        image, labels, valid, _ = samples[key]
        rows, columns = int(valid.any(1).sum()), int(valid.any(0).sum())
        assert rows == columns
        found.add(rows / CODED)
        padding = ~valid
        left = bool(valid[0, 0])  # mirrored ones have theirs on the left
        assert valid[:rows, :columns].all() if left else valid[:rows, -columns:].all()
        assert valid.sum() == rows * columns
        assert (image[padding] == samples.padding[0]).all()
        assert np.abs(image[padding] / 255 - 0.5).max(initial=0) < 1 / 255  # 0 but for rounding once the mean is off
        assert (labels[padding] == VOID).all()
        if key[0] == "unlabelled":
            assert (labels == VOID).all()
            continue
        assert (labels[valid] != VOID).all()
        wrong = valid & (np.abs(image[..., 0].astype(int) - 20 - 60 * labels.astype(int)) > 30)
        assert wrong.sum() <= 2 * (rows + columns)
    assert sorted(found) == pytest.approx(FACTORS)


@pytest.mark.parametrize("kind", [StreamSamples, ImageSamples])
def test_check_11_mirrored_twice_is_as_it_was(coded, kind):
    """The same draws but for the mirror."""
    plain, mirrored, half = (samples_of(kind, coded, flip=flip) for flip in (0.0, 1.0, 0.5))
    shown, times = 0, 0
    for key in keys_of(plain):
        for each, other, either in zip(plain[key], mirrored[key], half[key], strict=True):
            if isinstance(each, np.ndarray) and each.ndim > 1:
                assert (other[:, ::-1] == each).all()
                assert (either == each).all() or (either == other).all()
        shown, times = shown + int((half[key][0] == mirrored[key][0]).all()), times + 1
    assert 0.3 < shown / times < 0.7
    window = Window(60, 70, 3, 5, 40, 50, False)
    image, mask = patchwork(0)
    for crop in (lambda own: crop_labels(mask, own), lambda own: crop_image(image, own, (0, 0, 0))):
        assert (crop(Window(60, 70, 3, 5, 40, 50, True))[:, ::-1] == crop(window)).all()


def test_check_11_images_of_the_classifier_are_scaled_and_their_class_is_not(coded):
    samples, found = samples_of(ImageSamples, coded, flip=0.0), set()
    with Dataset(coded[0]) as data:
        for index, turn in keys_of(samples):
            image, target, _ = samples[(index, turn)]
            rows = int((image[:, 0, 0] != samples.padding[0]).sum())
            found.add(rows / CODED)
            assert (image[rows:] == samples.padding[0]).all()
            assert target == np.bincount(data.mask(samples.ids[index]).ravel()).argmax()
    assert sorted(found) == pytest.approx(FACTORS)


# --- adversarial training ---------------------------------------------------------------------------------------------


def adversary(world, folder, key="key", classes=CLASSES, **own):
    """A training with a discriminator, not yet begun."""
    chosen = settings_of("model", **own)
    return tasks.training_of(folder / "a.safetensors", world["dataset"], world["masks"], chosen, classes, key)


def generated(learner, batch, iteration):
    """The losses of the network in an iteration, counted from 1."""
    learner.step = iteration - 1
    torch.manual_seed(0)
    return {name: float(value.detach()) for name, value in learner.generate(batch)[2].items()}


def test_check_12_self_training_begins_after_iteration_1000(world, tmp_path):
    """Iterations count from 1 as in the specification; the steps of the loop count from 0."""
    assert TrainSettings(objective="adversarial").of_objective.self_training_from == 1000
    learner = adversary(world, tmp_path, self_training_from=1000, gate=0.0).learner
    batch = next(learner.batches(0))
    assert learner.step == 0
    for iteration in (1, 1000, 1001, 20000):
        losses = generated(learner, batch, iteration)
        assert losses["accepted"] == 1
        assert losses["self_training"] > 0
        counted = losses["self_training"] if iteration > 1000 else 0
        assert losses["loss"] == pytest.approx(losses["supervised"] + 0.1 * losses["matching"] + counted, rel=1e-6)


def test_check_12_the_objective_counts_the_steps_of_the_loop(world, tmp_path):
    training = adversary(world, tmp_path, self_training_from=2)
    seen, learner = [], training.learner
    original = learner.generate

    def generate(batch):
        seen.append((learner.step, training.state.step))
        return original(batch)

    learner.generate = generate
    training.run()
    assert seen == [(number, number) for number in range(6)]
    learner.batches(4)
    assert learner.step == 4  # where a training that was stopped goes on


def test_check_12_a_new_discriminator_believes_nothing(world, tmp_path):
    learner = adversary(world, tmp_path, gate=0.6, self_training_from=0).learner
    learner.train()
    fake, real, losses = learner.generate(next(learner.batches(0)))
    for pairs in (fake, real):
        assert ((learner.judged(pairs) - 0.5).abs() < 0.05).all()
    assert (float(losses["accepted"]), float(losses["self_training"].detach())) == (0, 0)
    losses["loss"].backward()
    assert all(
        parameter.grad.isfinite().all() for parameter in learner.network.parameters() if parameter.grad is not None
    )


def test_check_12_the_gate_is_a_judgement_without_dropout(world, tmp_path):
    """The same score twice, the discriminator learning before and after."""
    learner = adversary(world, tmp_path).learner
    learner.train()
    fake, _, _ = learner.generate(next(learner.batches(0)))
    assert torch.equal(learner.judged(fake), learner.judged(fake))
    assert learner.discriminator.training
    assert not torch.equal(learner.discriminator(fake)[0], learner.discriminator(fake)[0])


def test_checks_15_and_16_each_player_learns_from_its_own_loss_alone(world, tmp_path):
    learner = adversary(world, tmp_path, gate=0.0, self_training_from=0).learner
    learner.train()
    network, judge = (list(learner.modules[name].parameters()) for name in ("network", "discriminator"))
    updates = learner.updates(next(learner.batches(0)))
    name, losses = next(updates)
    assert name == "network"
    losses["loss"].backward()
    assert all(parameter.grad is not None for parameter in network)
    assert any(parameter.grad.any() for parameter in network)
    assert all(parameter.grad is None for parameter in judge)
    for parameter in network:
        parameter.grad = None
    name, losses = next(updates)
    assert name == "discriminator"
    losses["loss"].backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in judge)
    assert all(parameter.grad is None for parameter in network)
    assert next(updates, None) is None
    for part in ("matching", "self_training"):  # both reach the network, through its logits
        _, _, losses = learner.generate(next(learner.batches(0)))
        assert not losses[part].requires_grad  # told, not learned from
    only = adversary(world, tmp_path, key="fm", feature_matching=1.0).learner
    only.train()
    batch = next(only.batches(0))
    batch.labelled.labels.fill_(VOID)  # check 13: no label costs nothing
    _, _, losses = only.generate(batch)
    assert float(losses["supervised"]) == 0
    losses["loss"].backward()
    assert any(parameter.grad.any() for parameter in only.network.parameters())
    assert all(parameter.grad.isfinite().all() for parameter in only.network.parameters())


def test_check_17_the_history_adds_up(world):
    """In the first epoch self-training does not count yet; all there is to tell is told, and is finite."""
    rows, chosen = history(world["model"]), settings_of("model").of_objective
    assert [row["step"] for row in rows] == [3, 6]
    for row, active in zip(rows, (False, True), strict=True):
        parts = {"supervised", "matching", "self_training", "accepted"}
        parts |= {f"discriminator_{name}" for name in ("loss", "real", "fake")}
        assert parts < row.keys()
        assert np.isfinite(list(row.values())).all()
        assert min(row["supervised"], row["matching"], row["self_training"]) > 0
        weight = chosen.self_training if active else 0
        losses = row["supervised"], row["matching"], row["self_training"]
        assert row["loss"] == pytest.approx(total_loss(*losses, chosen.feature_matching, weight), rel=1e-6)
        assert row["accepted"] == 1  # above 0.3 all
        assert row["discriminator_loss"] == pytest.approx(np.log(2), abs=0.05)
        assert row["discriminator_real"] == pytest.approx(0.5, abs=0.05)
        assert row["discriminator_fake"] == pytest.approx(0.5, abs=0.05)
    model = Model(world["model"])
    assert model.has_discriminator
    assert (
        model.part("discriminator").keys()
        == adversary(world, world["folder"]).learner.discriminator.state_dict().keys()
    )


def test_check_19_rates_of_all_groups_follow_the_schedule(world, tmp_path):
    """Backbone, weights and biases of the head as 1 to 10 to 20; biases without weight decay; 20 000 steps."""
    training = adversary(world, tmp_path, epochs=200, steps_per_epoch=100)
    learner, optimisers = training.learner, training.optimisers
    groups = optimisers["network"].param_groups
    owner = {id(parameter): number for number, group in enumerate(groups) for parameter in group["params"]}
    for name, parameter in learner.network.named_parameters():
        expected = 0 if name.startswith("backbone.") else 2 if name.endswith(".bias") else 1
        assert owner.pop(id(parameter)) == expected, name
    assert not owner
    assert [group["weight_decay"] for group in groups] == [5e-4, 5e-4, 0]
    assert {group["momentum"] for group in groups} == {0.9}
    (judge,) = optimisers["discriminator"].param_groups
    assert (judge["betas"], judge["weight_decay"]) == ((0.9, 0.99), 0)
    for step, rate, of_judge in (
        (0, 2.5e-4, 1e-4),
        (10, 2.498875e-4, 9.9955e-5),
        (10000, 1.339717e-4, 5.358867e-5),
        (20000, 0, 0),
    ):
        training.state.step = step
        for name, module in learner.modules.items():
            training.descend(name, sum(parameter.sum() for parameter in module.parameters()) * 0)
        assert [group["lr"] for group in groups] == pytest.approx([rate, 10 * rate, 20 * rate], rel=1e-6, abs=1e-12)
        assert judge["lr"] == pytest.approx(of_judge, rel=1e-6, abs=1e-12)


class Told(nn.Module):
    """A network that is sure of the labels it is told, and of class 1 where there are none."""

    def __init__(self, labels, classes):
        super().__init__()
        classes = nn.functional.one_hot(torch.where(labels == VOID, 1, labels).long(), classes)
        self.logits = nn.Parameter(400 * classes.permute(0, 3, 1, 2).float())

    def forward(self, images):
        return self.logits + 0 * images.sum()


def test_check_20_what_is_predicted_rightly_looks_real(world, tmp_path):
    """With padding, with void in the masks and other images' void in the predictions."""
    learner = adversary(world, tmp_path, crop=(80, 88), flip=0.5).learner
    learner.discriminator.eval()
    part = collate_part([learner.samples[("real", index, 0)] for index in range(4)])
    assert (part.labels[part.valid] == VOID).any()
    assert not part.valid.all()
    learner.network = Told(part.labels, CLASSES)
    hidden = collate_part([learner.samples[("real", index, 0)] for index in range(4)])
    hidden.labels.fill_(VOID)
    fake, real, losses = learner.generate(StreamBatch(part, hidden, part))
    assert fake.shape == (4, CLASSES + 3, 80, 88)
    assert torch.equal(fake, real)
    outside = ~part.valid[:, None].expand_as(fake)
    assert not fake[outside].any()
    assert float(losses["matching"]) == 0
    assert 0 <= fake.min() <= fake.max() <= 1
    pictures = torch.where(part.valid[:, None], part.images.float() / 255, 0)
    assert torch.equal(real[:, CLASSES:], pictures)  # by 255, not by what else is in the batch


# --- evaluation -------------------------------------------------------------------------------------------------------


class ByColour(nn.Module):
    """Perfect logits on a canvas: class 1 where an image is bright."""

    def __init__(self, pad_multiple):
        super().__init__()
        self.pad_multiple, self.sizes = pad_multiple, []

    def forward(self, images):
        self.sizes.append(tuple(images.shape[-2:]))
        bright = images.mean(1, keepdim=True)
        return torch.cat([-bright, bright], 1)


@pytest.mark.parametrize("side, multiple, canvas", [(256, 320, 320), (256, 8, 256), (250, 320, 320), (256, 200, 400)])
def test_check_22_a_perfect_network_is_perfect_on_a_padded_canvas(tmp_path, side, multiple, canvas):
    mask = np.zeros((256, side), np.uint8)
    mask[:, 128:] = 1
    image = np.repeat(mask[..., None] * 200 + 20, 3, 2).astype(np.uint8)
    path = made_of(tmp_path / "d.h5", {"x0": (image, mask), "x1": (image[:, ::-1], mask[:, ::-1])}, 2)
    network = ByColour(multiple)
    predictor = Predictor(network, (0.5,) * 3, (0.25,) * 3, torch.device("cpu"))
    with Dataset(path) as data, Progress("evaluating", 2) as bar:
        found = evaluate.evaluate_one(predictor, data, data.ids("test"), False, (1.0,), 4, bar)
    assert {width for _, width in network.sizes} == {canvas}
    assert found.sum() == 2 * mask.size
    assert mean_iou(found) == 1


@pytest.mark.parametrize(
    "found, best",
    [((0.2, 0.5, 0.5, 0.4), 1), ((np.nan, 0.0, 0.1), 2), ((np.nan, 0.0), 1), ((np.nan, np.nan), 0), ((0.0, 0.0), 0)],
)
def test_check_23_the_first_of_the_best_wins(found, best):
    assert evaluate.first_best(found) == best


@pytest.fixture(scope="module")
def second(world):
    """Another model of the same data."""
    output = world["folder"] / "second.safetensors"
    return train.run(world["dataset"], world["masks"], output, settings_of("model", seed=1, backbone_lr=1e-2))


def test_check_23_no_test_mask_is_opened_while_choosing(world, second, tmp_path, monkeypatch):
    """Every mask of val is read for every candidate, then those of test once, for the chosen alone."""
    reads, original = [], Dataset.mask

    def mask(data, image, grid=None):
        reads.append(image)
        return original(data, image, grid)

    monkeypatch.setattr(Dataset, "mask", mask)
    models = [world["model"], second]
    chosen = settings_of("evaluation", choose_on="val")
    path = evaluate.run(world["dataset"], models, tmp_path / "e.h5", chosen)
    assert reads[-2:] == ["x0", "x1"]
    assert set(reads[:-2]) == {"v0", "v1"}
    assert len(reads[:-2]) >= 4
    report = json.loads(path.with_suffix(".json").read_text())
    told = report["chosen_on"]
    assert [entry["file"] for entry in told["candidates"]] == ["model.safetensors"] * 2 + ["second.safetensors"] * 2
    found = [entry["miou"] for entry in told["candidates"]]
    assert told["split"] == "val"
    assert told["miou"] == max(found)
    best = told["candidates"][found.index(max(found))]
    (entry,) = report["models"]
    assert (Path(entry["file"]).name, entry["checkpoint"]) == (best["file"], best["checkpoint"])
    plain = Evaluation(evaluate.run(world["dataset"], models, tmp_path / "all.h5", settings_of("evaluation")))
    assert len(plain.read("miou")) == 4
    assert Evaluation(path).read("miou")[0] == plain.read("miou")[found.index(max(found))]
    monkeypatch.undo()
    validated = {file: history(world["folder"] / file) for file in ("model.safetensors", "second.safetensors")}
    for entry in told["candidates"]:
        rows = [row["val_miou"] for row in validated[entry["file"]]]
        assert entry["miou"] == pytest.approx(rows[-1] if entry["checkpoint"] == "last" else max(rows))


def test_check_23_a_sweep_without_a_number_takes_the_first_and_does_not_crash(world, second, tmp_path):
    def change(file):
        for name in ("v0", "v1"):
            file[f"masks/{name}"][:] = VOID

    void = changed(world["dataset"], tmp_path / "void.h5", change)
    chosen = settings_of("evaluation", choose_on="val")
    path = evaluate.run(void, [second, world["model"]], tmp_path / "e.h5", chosen)
    report = json.loads(path.with_suffix(".json").read_text(), parse_constant=pytest.fail)
    assert {entry["miou"] for entry in report["chosen_on"]["candidates"]} == {None}
    assert Path(report["models"][0]["file"]).name == "second.safetensors"
    assert np.isfinite(report["models"][0]["miou"])


def test_check_23_the_split_that_is_reported_is_refused_for_choosing(world, blind, tmp_path):
    with pytest.raises(BadInput, match="choose_on must differ from split"):
        EvaluateSettings.load({"choose_on": "test"})
    with pytest.raises(BadInput, match=r"no masks in split 'train'\. Choose another --choose-on"):
        evaluate.run(blind, [world["model"]], tmp_path / "e.h5", settings_of("evaluation", choose_on="train"))


# --- smoke ------------------------------------------------------------------------------------------------------------


def toy(number):
    """A blue rectangle on red, with noise."""
    generator = stream(number, "toy")
    mask = np.zeros((64, 64), np.uint8)
    height, width = generator.integers(24, 49, 2)
    y, x = generator.integers(0, 65 - height), generator.integers(0, 65 - width)
    mask[y : y + height, x : x + width] = 1
    image = np.array([[200, 60, 60], [60, 60, 200]])[mask] + generator.integers(-40, 41, (64, 64, 3))
    return image.astype(np.uint8), mask


TOY = TINY | {
    "objective": "adversarial",
    "backbone": "test_efficientnet",
    "optimiser": "adamw",
    "backbone_lr": 3e-3,
    "head_lr": 3e-3,
    "crop": (64, 64),
    "scale_range": (1, 1),
    "jitter": 0,
    "grey": 0,
    "blur": 0,
    "epochs": 5,
    "steps_per_epoch": 40,
    "discriminator_width": 4,
    "discriminator_lr": 1e-3,
    "self_training_from": 50,
    "gate": 0.5,
    "validate_every": 5,
}


def test_check_25_smoke(tmp_path, monkeypatch):
    """200 steps, in one go and stopped after step 100, the 20th of an epoch."""
    pairs = {f"{'t' if number < 20 else 'v'}{number:02}": toy(number) for number in range(24)}
    dataset = made_of(tmp_path / "d.h5", pairs, 2)
    masks = answered(tmp_path, dataset, "masks", image_answer="mask", ratio=0.2)
    assert len(Annotations(masks).mask_ids) == 4
    settings = TrainSettings.load({}, offered=TOY)
    whole = train.run(dataset, masks, tmp_path / "whole.safetensors", settings)
    rows = history(whole)
    assert [row["step"] for row in rows] == [40, 80, 120, 160, 200]
    for row in rows:
        assert np.isfinite(list(row.values())).all()
    assert rows[-1]["val_miou"] > 0.9  # 0.958 when this was written
    assert 0 < np.mean([row["accepted"] for row in rows]) < 1
    original = AdversarialLearner.images_in

    def images_in(learner, batch):
        if learner.step == 100:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(learner, batch)

    monkeypatch.setattr(AdversarialLearner, "images_in", images_in)
    with pytest.raises(Stopped, match="after step 100"):
        train.run(dataset, masks, tmp_path / "parts.safetensors", settings)
    monkeypatch.undo()
    parts = train.run(dataset, masks, tmp_path / "parts.safetensors", settings)
    assert digest(parts) == digest(whole)
    for name in ("last", "best", "discriminator"):
        one, other = Model(whole).part(name), Model(parts).part(name)
        assert all(torch.equal(one[key], other[key]) for key in one)
    for one, other in zip(rows, history(parts), strict=True):
        assert one | {"images_per_second": 0} == other | {"images_per_second": 0}


# --- classifiers ------------------------------------------------------------------------------------------------------


def test_rounds_start_from_the_classifier_before_unless_they_are_to_start_anew(world, tmp_path):
    dataset, ledger, start = world["dataset"], world["ledger1"], world["classifier0"]
    still = settings_of("classifier", backbone_lr=0.0, head_lr=0.0, freeze_norm=True)
    warm = Model(train.run(dataset, ledger, tmp_path / "warm.safetensors", still, start))
    before = Model(start).weights("last")
    assert all(torch.equal(before[name], tensor) for name, tensor in warm.weights("last").items())
    assert warm.header.inputs["model"].digest == digest(start)
    assert warm.header.counts["initial_weights"] == "classifier0.safetensors, last"
    cold = settings_of("classifier", cold_start=True)
    found = [
        train.run(dataset, ledger, tmp_path / f"{n}.safetensors", cold, model) for n, model in ((1, start), (2, None))
    ]
    assert digest(found[0]) == digest(found[1]) != digest(world["classifier1"])
    assert "model" not in Model(found[0]).header.inputs
    assert Model(world["classifier1"]).header.inputs["model"].digest == digest(start)


def test_a_training_starts_from_a_network_like_its_own_only(world, tmp_path):
    dataset, output = world["dataset"], tmp_path / "m.safetensors"
    other = settings_of("classifier", backbone="test_efficientnet")
    with pytest.raises(BadInput, match=r"has another network\. To start from it, set backbone mobilenetv3_small_050"):
        train.run(dataset, world["ledger1"], output, other, world["classifier0"])
    with pytest.raises(BadInput, match=r"predicts a class per pixel\. Start from a model of the same kind"):
        train.run(dataset, world["ledger1"], output, settings_of("classifier"), world["model"])
    with pytest.raises(BadInput, match=r"predicts classes of whole images\. Start from a model of the same kind"):
        train.run(dataset, world["masks"], output, settings_of("model"), world["classifier0"])
    assert not output.exists()


def test_a_segmentation_network_starts_from_another(world, tmp_path):
    """A discriminator always starts anew."""
    still = settings_of("model", backbone_lr=0.0, head_lr=0.0)
    found = Model(train.run(world["dataset"], world["masks"], tmp_path / "m.safetensors", still, world["model"]))
    before = Model(world["model"]).weights("last")
    assert all(torch.equal(before[name], tensor) for name, tensor in found.weights("last").items())


@pytest.mark.parametrize("fraction", [0.4, 1.0])
def test_k_centre_takes_those_farthest_from_what_was_asked(world, tmp_path, fraction):
    """One after the other of the most uncertain, each with the largest distance to the nearest asked or taken."""
    dataset, ledger = world["dataset"], world["ledger0"]
    kept = settings_of("scores", 1, keep_features=True)
    path = score.run(dataset, tmp_path / "s.h5", kept, world["classifier0"])
    scores = Scores(path)
    assert scores.image_scores().tolist() == Scores(world["scores1"]).image_scores().tolist()
    chosen = settings_of("queries", 1, **SHARES | {"rule": "k-centre", "query_share": 1.0, "fraction": fraction})
    found = names(select.run(dataset, path, tmp_path / "q.h5", chosen, ledger))
    features = dict(zip(scores.ids, scores.image_features().astype(np.float64), strict=True))
    assert len(next(iter(features.values()))) > 100
    near = [image for image in scores.ids if image in names(world["queries0"])]
    order = sorted(zip(-scores.image_scores(), scores.ids, strict=True))
    left = [image for _, image in order if image not in near][: max(3, int(20 * fraction))]
    expected = []
    for _ in range(3):
        gaps = [(-min(np.square(features[image] - features[each]).sum() for each in near), image) for image in left]
        expected.append(min(gaps)[1])
        near.append(expected[-1])
        left.remove(expected[-1])
    assert found == expected


def test_features_do_not_depend_on_how_many_images_go_together(world, tmp_path, monkeypatch):
    """On a CPU, where the last bits of a convolution depend on that: here much does."""
    original = ImageClassifier.features
    monkeypatch.setattr(ImageClassifier, "features", lambda self, images: original(self, images) + len(images))
    found = set()
    for batch in (1, 8):
        kept = settings_of("scores", 1, keep_features=True, batch=batch)
        found.add(digest(score.run(world["dataset"], tmp_path / f"{batch}.h5", kept, world["classifier0"])))
    assert len(found) == 1


def right_answers(world, folder, model, measure, several):
    """The share of right classes of val, read off the scores of its images."""
    values = ScoreSettings(unit="image", measure=measure, split="val", device="cpu")
    scores = Scores(score.run(world["dataset"], folder / "val.h5", values, model))
    right = []
    with Dataset(world["dataset"]) as data:
        for image, p in zip(scores.ids, scores.read("images/probability"), strict=True):
            shares = np.bincount(data.mask(image).ravel(), minlength=256)[:CLASSES] / (data.mask(image) != VOID).sum()
            right += ((p > 0.5) == (shares >= 0.05)).tolist() if several else [p.argmax() == shares.argmax()]
    return np.mean(right)


def test_a_classifier_is_validated_by_the_classes_of_images(world, tmp_path):
    (row,) = history(world["classifier3"])
    assert row["val_accuracy"] == right_answers(world, tmp_path, world["classifier3"], "entropy", False)
    assert Model(world["classifier3"]).header.counts["last_val_accuracy"] == row["val_accuracy"]


def test_a_classifier_of_all_classes_in_an_image(world, tmp_path):
    """Trained on sets with a yes or no for each class, scored by how undecided those are."""
    dataset = world["dataset"]
    ledger = answered(tmp_path, dataset, "sets", image_answer="classes", budget=6)
    model = train.run(dataset, ledger, tmp_path / "m.safetensors", settings_of("classifier", epochs=2))
    targets = image_targets(Annotations(ledger))
    assert len(targets) == 6
    assert all(target.shape == (CLASSES,) and set(target.tolist()) <= {0.0, 1.0} for target in targets.values())
    accuracy = history(model)[-1]["val_accuracy"]
    assert accuracy == pytest.approx(right_answers(world, tmp_path, model, "binary-entropy", True))
    scores = Scores(score.run(dataset, tmp_path / "s.h5", settings_of("scores", 1, measure="binary-entropy"), model))
    p = scores.read("images/probability").astype(np.float64)
    expected = -(p * np.log(p) + (1 - p) * np.log(1 - p)).mean(1)
    assert scores.image_scores() == pytest.approx(expected, abs=1e-5)


def test_sets_are_not_validated_on_images_without_masks(world, tmp_path):
    """Their class alone does not tell which others are there."""

    def change(file):
        file["index/label"][:] = 0
        for name in ("v0", "v1"):
            del file[f"masks/{name}"]

    dataset = changed(world["dataset"], tmp_path / "d.h5", change)
    sets = answered(tmp_path, dataset, "sets", image_answer="classes", budget=4)
    model = Model(train.run(dataset, sets, tmp_path / "m.safetensors", settings_of("classifier")))
    assert model.checkpoints() == ["last"]
    model = Model(train.run(dataset, world["ledger0"], tmp_path / "c.safetensors", settings_of("classifier")))
    assert model.checkpoints() == ["last", "best"]


def test_an_answer_of_one_class_does_not_say_that_no_other_is_there(world, tmp_path):
    one = answered(tmp_path, world["dataset"], "one", image_answer="class", budget=4)
    both = Annotations(answered(tmp_path, world["dataset"], "both", one, image_answer="classes", budget=5))
    assert len(image_targets(Annotations(one))) == 4
    assert image_targets(both).keys() == {both.ids[image] for image in both.answers.image[4:]}


def test_a_classifier_of_other_classes_is_no_start(named):
    """Of scenes before, of what is seen in them now."""
    folder, dataset, ledger = named
    before = train.run(dataset, ledger, folder / "scenes.safetensors", settings_of("classifier"))
    (folder / "sets").mkdir()
    sets = answered(folder / "sets", dataset, "sets", image_answer="classes")
    with pytest.raises(BadInput, match=r"predicts other classes than .*\. Set --cold-start"):
        train.run(dataset, sets, folder / "sets.safetensors", settings_of("classifier"), before)
    cold = settings_of("classifier", cold_start=True)
    assert Model(train.run(dataset, sets, folder / "sets.safetensors", cold, before)).outputs == 2


def refused(world, tmp_path, what):
    """Calls that cannot be right, by what is wrong with them."""
    dataset, classifier, output = world["dataset"], world["classifier0"], tmp_path / "out.h5"
    scored = settings_of("scores", 1)
    match what:
        case "evaluate a classifier":
            evaluate.run(dataset, [classifier], output, settings_of("evaluation"))
        case "labels of a classifier":
            gated = PseudoLabelSettings(method="gated")
            pseudo_label.run(dataset, world["masks"], classifier, output, gated)
        case "regions of a classifier":
            base = write_superpixels(tmp_path, dataset)
            extract_superpixels.run(dataset, output, ExtractSettings(method="adaptive"), base, classifier)
        case "pixels of a classifier":
            score.run(dataset, output, ScoreSettings(measure="entropy"), classifier)
        case "a committee of a classifier":
            score.run(dataset, output, settings_of("scores", 1, committee=2), classifier)
        case "k-centre without a choice":
            asked = settings_of("queries", 1, **SHARES, rule="k-centre", fraction=0.05)
            kept = score.run(
                world["dataset"], tmp_path / "s.h5", settings_of("scores", 1, keep_features=True), world["classifier0"]
            )
            select.run(world["dataset"], kept, output, asked, world["ledger0"])
        case "k-centre without features":
            asked = settings_of("queries", 1, **SHARES, rule="k-centre")
            select.run(dataset, world["scores1"], output, asked, world["ledger0"])
        case "answered without a ledger":
            select.run(dataset, world["scores1"], output, settings_of("chosen"))
        case "answered for classes":
            select.run(dataset, world["scores1"], output, settings_of("chosen", image_answer="class"), world["ledger1"])
        case "answered twice":
            select.run(dataset, world["scores1"], output, settings_of("chosen"), world["masks"])
        case "clusters of images":
            asked = SelectSettings(rule="clusters")
            select.run(dataset, world["scores1"], output, asked, world["ledger0"])
        case "an objective without its architecture":
            TrainSettings.load({"objective": "image-classes"})
        case "an architecture without its objective":
            TrainSettings.load({"architecture": "classifier", "objective": "adversarial"})
        case "a classifier of masks":
            ledger = answered(tmp_path, dataset, "masks", image_answer="mask", budget=4)
            train.run(dataset, ledger, tmp_path / "m.safetensors", settings_of("classifier"))
        case "masks of classes":
            train.run(dataset, world["ledger1"], tmp_path / "m.safetensors", settings_of("model"))
        case "labels of classes":
            plain = settings_of("model", recipe="als4gan-supervised")
            train.run(dataset, world["ledger1"], tmp_path / "m.safetensors", plain)
        case "no image without a mask":
            ledger = answered(tmp_path, dataset, "all", image_answer="mask")
            train.run(dataset, ledger, tmp_path / "m.safetensors", settings_of("model"))
        case "no discriminator":
            plain = settings_of("model", recipe="als4gan-supervised", epochs=1)
            model = train.run(dataset, world["masks"], tmp_path / "plain.safetensors", plain)
            pseudo_label.run(dataset, world["masks"], model, output, PseudoLabelSettings(method="gated"))
        case "no masks beside":
            pseudo_label.run(dataset, world["ledger1"], world["model"], output, PseudoLabelSettings(method="gated"))
        case "errors in masks":
            wrong = AnnotateSettings(error_rate=0.1)
            annotate_simulate.run(dataset, world["chosen"], output, wrong, world[f"ledger{ROUNDS - 1}"])
        case "classes by another classifier":
            other = write_dataset(tmp_path / "o.h5", {"a": np.zeros((64, 64), np.uint8)}, CLASSES + 1)
            score.run(other, output, scored, classifier)


@pytest.mark.parametrize(
    "what, remedy",
    [
        ("evaluate a classifier", "Pass a segmentation model"),
        ("labels of a classifier", "Pass a segmentation model"),
        ("regions of a classifier", "Pass a segmentation model"),
        ("pixels of a classifier", "Pass a segmentation model"),
        ("a committee of a classifier", "a classifier of images, which has no committee"),
        ("k-centre without a choice", r"of the 1 with the highest scores .*Raise --fraction"),
        ("k-centre without features", r"has no features of images\. Score with"),
        ("answered without a ledger", "Pass --annotations with answers about classes of images"),
        ("answered for classes", "Set --image-answer mask"),
        ("answered twice", "every image with an answered class already has a mask"),
        ("clusters of images", r"Rule clusters serves regions, and .* has images\. Use answered, k-centre, pool"),
        ("an objective without its architecture", "set an architecture that predicts classes of images"),
        ("an architecture without its objective", "set an architecture that predicts classes of pixels"),
        ("a classifier of masks", "Query them with --image-answer class"),
        ("masks of classes", "has no full masks, which objective adversarial learns from"),
        ("labels of classes", "has no labels"),
        ("no image without a mask", "Set --objective labels"),
        ("no discriminator", "Train one with --objective adversarial"),
        ("no masks beside", "contains no full masks"),
        ("errors in masks", "error-rate does not apply to answer mask"),
        ("classes by another classifier", "was trained for the classes class0"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_remedy(world, tmp_path, what, remedy):
    with pytest.raises(BadInput, match=remedy):
        refused(world, tmp_path, what)
    assert not (tmp_path / "out.h5").exists()
    assert not (tmp_path / "m.safetensors").exists()


# --- gated pseudo-labels ----------------------------------------------------------------------------------------------


def gated(world, output, **own):
    chosen = PseudoLabelSettings(**{"method": "gated", "device": "cpu"} | own)
    return pseudo_label.run(world["dataset"], world["masks"], world["model"], output, chosen)


@pytest.fixture(scope="module")
def everything(world):
    """The labels where every prediction is accepted."""
    return PseudoLabels(gated(world, world["folder"] / "everything.h5", gate=0.0))


def test_accepted_images_are_labelled_as_predicted_and_refused_ones_not_at_all(world, everything, tmp_path):
    z, ledger = everything.read("images/score"), Annotations(world["masks"])
    judged = np.sort(z[~np.isnan(z)])
    assert len(judged) == 20 - BUDGET
    gate = float(judged[len(judged) // 2])  # one is exactly at the gate, and not above it
    labels = PseudoLabels(gated(world, tmp_path / "l.h5", gate=gate))
    accepted = labels.read("images/accepted").astype(bool)
    assert (labels.read("images/score") == z)[~np.isnan(z)].all()
    assert accepted.tolist() == (z > np.float32(gate)).tolist()
    assert 0 < accepted.sum() < len(judged)
    predictor = load_predictor(Model(world["model"]), "last", torch.device("cpu"), "auto")
    with Dataset(world["dataset"]) as data:
        assert labels.ids == data.ids("train")
        for row, image in enumerate(labels.ids):
            found = labels.label_map(image)
            assert np.isnan(z[row]) == (image in ledger.mask_ids)
            assert labels.labelled_pixels[row] == (found != VOID).sum()
            if image in ledger.mask_ids:
                assert (found == ledger.label_map(image)).all()
            elif accepted[row]:
                pixels = torch.from_numpy(data.image(image)).permute(2, 0, 1)[None]
                assert (found == predictor.logits(pixels).argmax(1)[0].numpy()).all()
            else:
                assert (found == VOID).all()
    counts = labels.header.counts
    assert (counts["masks"], counts["accepted"], counts["refused"]) == (BUDGET, accepted.sum(), 13 - accepted.sum())
    assert counts["clicks"] == ledger.cost()["clicks"]
    assert labels.attributes["method"] == "gated"


def test_a_gate_of_0_accepts_all_and_one_of_1_nothing(world, everything, tmp_path):
    assert everything.labelled_ids() == everything.ids
    assert everything.header.counts["accepted"] == 13
    nothing = PseudoLabels(gated(world, tmp_path / "n.h5", gate=1.0))
    assert nothing.header.counts["refused"] == 13
    assert set(nothing.labelled_ids()) == Annotations(world["masks"]).mask_ids
    assert (nothing.read("images/score") == everything.read("images/score"))[nothing.read("images/score") >= 0].all()


def test_training_learns_from_what_was_accepted(world, everything, tmp_path):
    plain = settings_of("model", recipe="als4gan-supervised", epochs=1)
    model = Model(train.run(world["dataset"], everything.path, tmp_path / "m.safetensors", plain))
    assert model.header.counts["labelled_images"] == 20
    assert model.header.counts["labelled_pixels"] == everything.labelled_pixels.sum()
    assert not model.has_discriminator


def test_gated_labels_do_not_depend_on_how_many_images_go_together(world, everything, tmp_path, monkeypatch):
    """On a CPU, where the last bits of a convolution depend on that: here much does."""
    assert digest(gated(world, tmp_path / "b.h5", gate=0.0, batch=8)) == everything.digest
    original = Discriminator.forward

    def forward(self, pairs):
        found, features = original(self, pairs)
        return found + len(pairs), features

    monkeypatch.setattr(Discriminator, "forward", forward)
    assert len({digest(gated(world, tmp_path / f"{batch}.h5", gate=0.0, batch=batch)) for batch in (1, 8)}) == 1


def test_artifacts_of_the_chain_are_sound(world):
    """Every one opens as what it is and says which seed made it."""
    for name, path in world.items():
        if name not in ("folder", "dataset"):
            assert open_any(path).header.seed == 0
    whole = image_budget(20, **RATIO, **SHARES)
    assert (whole.budget, whole.seed, 1 + whole.rounds) == (BUDGET, SEED, ROUNDS)
