"""The acceptance checks of the MADBAL specification (madbal.md, section 11) go through the stages; what they share.

Checks 3 and 4 are in test_madbal_clusters.py; 5 to 9, the numbers of 6 and 7 and the losses of 15 and 17 in
tests/scoring/test_maturity.py, tests/pixels/test_edges.py and tests/training/test_support_losses.py; 11 to 13
in tests/selecting/test_clusters.py; numbers of parameters in tests/networks. Void and batches in an evaluation (16)
are in tests/networks/test_inference.py.
"""

import csv

import numpy as np
import torch
from worlds import TINY, write_dataset

from stages.artifacts.annotations import Annotations
from stages.artifacts.model import Model
from stages.artifacts.superpixels import Superpixels
from stages.commands import annotate_simulate, cluster_regions, extract_superpixels, score, select, train
from stages.networks.predictor import load_predictor
from stages.pixels.edges import edge_mask
from stages.pixels.void import VOID
from stages.recipes.plan import takes_place
from stages.recipes.profile import load_profile
from stages.recipes.recipe import load_recipe
from stages.recipes.resolve import step_settings
from stages.registry import SETTINGS
from stages.runtime.randomness import stream

CLASSES = 4
BUDGET = 4
ROUNDS = 3
RECIPES = ["madbal", "madbal-reference"]
SMALL = {
    "extract-superpixels": {"grid_scale": 0.5, "region_pixels": 64, "workers": 1},
    "cluster-regions": {"clusters": 3, "passes": 2, "workers": 1, "device": "cpu"},
    "train": TINY | {"batch": 3, "epochs": 2, "lossiness_width": 16, "validate_every": 1, "scale_range": (1.0, 1.0)},
    "score": {"device": "cpu"},
    "select": {"budget": BUDGET},
}


def settings_of(name, number=0, recipe="madbal", **own):
    """The settings of the step ``name`` of a recipe in round ``number`` on scenes, but small."""
    found = load_recipe(recipe)
    step = next(step for step in found.steps if step.name == name and takes_place(step, number))
    values = step_settings(found, load_profile("scenes"), step).flat()
    return SETTINGS[step.stage].load(own, offered=values | SMALL.get(step.stage, {}))


def patchwork(number, size=(64, 96), classes=CLASSES):
    """An image of patches in the colours of their classes with noise, and its mask with some void."""
    generator = stream(number, "patchwork")
    rows, columns = (-(-side // 16) for side in size)
    mask = generator.integers(0, classes, (rows, columns)).repeat(16, 0).repeat(16, 1)[: size[0], : size[1]]
    colours = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [200, 200, 40]])
    image = np.clip(colours[mask] + generator.integers(-40, 40, (*size, 3)), 0, 255).astype(np.uint8)
    mask = mask.astype(np.uint8)
    mask[: size[0] // 8, : size[1] // 2] = VOID
    return image, mask


def patchworks(path, sizes, void=(), change=None):
    """A dataset of patchworks, of ids with a v for validation; those of ``void`` are void all over."""
    pairs = {name: patchwork(number, size) for number, (name, size) in enumerate(sizes.items())}
    images, masks = ({name: pair[place] for name, pair in pairs.items()} for place in (0, 1))
    for name in void:
        masks[name][:] = VOID
    if change is not None:
        masks = {name: change(mask) for name, mask in masks.items()}
    splits = {name: "val" if name.startswith("v") else "train" for name in sizes}
    return write_dataset(path, masks, CLASSES, splits, images)


def history(model):
    """The rows of the history beside a model, as numbers; what is empty is left out."""
    with model.with_name(f"{model.stem}.history.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


MAIN = {"a": (64, 96), "b": (64, 96), "c": (64, 96), "d": (64, 96), "v0": (64, 96), "v1": (64, 96)}


def parts(folder, dataset, workers=1):
    """What is made once: the superpixels and their clusters."""
    base = extract_superpixels.run(dataset, folder / "base.h5", settings_of("base", workers=workers))
    chosen = settings_of("clusters", workers=workers)
    return base, cluster_regions.run(dataset, base, folder / "clusters.h5", chosen)


def trained(folder, dataset, ledger, number, **own):
    """Both phases of a round."""
    model = train.run(dataset, ledger, folder / f"model{number}.safetensors", settings_of("model", **own))
    chosen = settings_of("support", **own)
    return model, train.run(dataset, ledger, folder / f"support{number}.safetensors", chosen, model)


def asked(folder, dataset, base, number=0, clusters=None, before=None, support=None, **own):
    """The scores and queries of a round."""
    scored, chosen = settings_of("scores", number, **own), settings_of("queries", number)
    if number == 0:
        scores = score.run(dataset, folder / "scores0.h5", scored, superpixels=base)
    else:
        scores = score.run(dataset, folder / f"scores{number}.h5", scored, support, base, clusters, before)
    return scores, select.run(dataset, scores, folder / f"queries{number}.h5", chosen, before, base)


def chain(folder, dataset):
    """The recipe of three rounds, stage by stage; every artifact by its name."""
    base, clusters = parts(folder, dataset)
    made, ledger, support = {"base": base, "clusters": clusters}, None, None
    for number in range(ROUNDS):
        scores, queries = asked(folder, dataset, base, number, clusters, ledger, support)
        answers = settings_of("annotations")
        ledger = annotate_simulate.run(dataset, queries, folder / f"ledger{number}.h5", answers, ledger)
        made |= {f"scores{number}": scores, f"queries{number}": queries, f"ledger{number}": ledger}
        if number < ROUNDS - 1:
            model, support = trained(folder, dataset, ledger, number)
            made |= {f"model{number}": model, f"support{number}": support}
    return made


def slow_scores(model, image):
    """S of every pixel of a grid of half the image's size and its predicted class, in f64 (spec 5.1 to 5.4)."""
    predictor = load_predictor(Model(model), "last", torch.device("cpu"), "auto")
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    logits, support = predictor.support_maps(pixels)

    def halved(maps):
        maps = maps[0].double().numpy()
        return sum(maps[..., row::2, column::2] for row in (0, 1) for column in (0, 1)) / 4

    def softmax(values):
        values = np.exp(values - values.max(0))
        return values / values.sum(0)

    p, weights, lossy = softmax(halved(logits)), halved(support.mixing), halved(support.lossiness.sigmoid())
    total = -(p * np.log(p)).sum(0)
    for side, weight in zip(halved(support.sides), weights, strict=True):
        q = softmax(side)
        middle = (p + q) / 2
        total += weight * (p * np.log(p / middle) + q * np.log(q / middle)).sum(0) / 2
    edges = edge_mask(pixels)[0, ::2, ::2].numpy()
    assert edges.any()
    assert not edges.all()
    return total * np.exp(np.where(edges, lossy[0], lossy[1])), p.argmax(0)


def remaining(world, number):
    """Per image the regions without what was asked before round ``number``."""
    regions, ledger = Superpixels(world["base"]), Annotations(world[f"ledger{number - 1}"])
    for image in regions.ids:
        labels = regions.labels(image)
        labels[ledger.queried_pixels(image)] = -1
        yield image, labels
