"""The acceptance checks of the ALS4GAN specification (als4gan.md, section 9) go through the stages; what they share.

Checks 1 to 4 are in tests/scoring/test_image_measures.py, 5 in tests/selecting/test_image_budget.py, 9 and 10 in
tests/datasets, the numbers of 12 to 17 and of 19 and 20 in tests/training/test_adversarial_losses.py, 18 and 24 in
tests/networks, 21 in tests/evaluating/test_confusion_variants.py.
"""

import csv
import shutil

import h5py
import numpy as np
from worlds import TINY, write_dataset

from stages.artifacts.opening import read_any_header
from stages.artifacts.queries import Queries
from stages.commands import annotate_simulate, score, select, train
from stages.datasets.description import load_description
from stages.pixels.void import VOID
from stages.recipes.plan import takes_place
from stages.recipes.profile import load_profile
from stages.recipes.recipe import load_recipe
from stages.recipes.resolve import step_settings
from stages.registry import SETTINGS
from stages.runtime.randomness import stream
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings

CLASSES = 3
SIDE = 64
COLOURS = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]])
RATIO = {"ratio": 0.35}  # of 20 images
SHARES = {"seed_share": 0.5, "query_share": 0.5}
BUDGET, SEED, SIZES = 7, 3, [3, 2, 2, 2, 1]
ROUNDS = len(SIZES)
SCENES = load_description("ucm-dlrsd").image_classes
SMALL = {
    "scores": {"device": "cpu"},
    "queries": RATIO,
    "chosen": RATIO | SHARES,
    "classifier": TINY | {"epochs": 1},
    "model": TINY
    | {"epochs": 2, "steps_per_epoch": 3, "crop": (SIDE, SIDE), "output_stride": 16, "aspp_rates": (1, 2)}
    | {"discriminator_width": 4, "self_training_from": 3, "gate": 0.3, "validate_every": 1}
    | {"stride_first": False, "dilate_from": "second-block"},
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
