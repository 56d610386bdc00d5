"""The acceptance checks of the MADBAL specification (madbal.md, section 11), through the stages, by their numbers.

Checks 3 and 4 are in test_madbal_clusters.py; 5 to 9, the numbers of 6 and 7 and the losses of 15 and 17 in
tests/scoring/test_maturity.py, tests/pixels/test_edges.py and tests/training/test_support_losses.py; 11 to 13
in tests/acquisition/test_clusters.py; numbers of parameters in tests/networks. Void and batches in an evaluation (16)
are in tests/networks/test_inference.py.
"""

import csv
import math
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from tasks import samples_of
from typer.testing import CliRunner
from worlds import TINY, changed, write_dataset, write_superpixels

import stages
from alseg_cli.app import app
from stages.artifacts.annotations import Annotations
from stages.artifacts.clusters import Clusters
from stages.artifacts.dataset import Dataset
from stages.artifacts.evaluation import Evaluation
from stages.artifacts.hdf5 import Artifact
from stages.artifacts.model import Model
from stages.artifacts.opening import open_any, read_any_header
from stages.artifacts.queries import Queries
from stages.artifacts.scores import Scores
from stages.artifacts.superpixels import Superpixels
from stages.commands import (
    annotate_simulate,
    cluster_regions,
    evaluate,
    extract_superpixels,
    prepare,
    score,
    select,
    train,
)
from stages.evaluating.confusion import confusion_matrix, intersection_over_union, mean_iou, pixel_accuracy
from stages.networks.build import build_network
from stages.networks.predictor import load_predictor
from stages.pixels.edges import edge_mask
from stages.pixels.maps import interpolated
from stages.pixels.void import VOID
from stages.recipes.plan import build_rules, check_settings, read_plan, takes_place
from stages.recipes.profile import load_profile
from stages.recipes.recipe import load_recipe
from stages.recipes.resolve import resolve, step_settings
from stages.regions.cut import cut
from stages.regions.cutters import seeds
from stages.regions.cutters.seeds import equalised
from stages.regions.reductions import best_pixels, region_sums
from stages.registry import SETTINGS
from stages.runtime.errors import BadInput
from stages.runtime.randomness import stream, torch_seed
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.cluster_regions import ClusterSettings
from stages.settings.evaluate import EvaluateSettings
from stages.settings.network import recorded_network
from stages.settings.prepare import PrepareSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings
from stages.settings.train import TrainSettings
from stages.training.learners.network import label_weights
from stages.training.losses.cross_entropy import cross_entropy
from stages.training.schedules import build_schedule
from stages.training.window import Window, crop_labels

CLASSES = 4
BUDGET = 4
ROUNDS = 3
RECIPES = ["madbal", "madbal-reference"]
PROFILES = ["cityscapes", "voc2012", "camvid", "camvid-cpu", "scenes"]
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


def other_classes(mask):
    """A mask whose every pixel has another class or none, and where void is known."""
    return np.where(mask == VOID, 0, np.where(mask == 0, VOID, (mask + 1) % CLASSES)).astype(np.uint8)


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


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Four images of 64x96 and a validation split; three rounds on a grid of half of them."""
    folder = tmp_path_factory.mktemp("world")
    dataset = patchworks(folder / "dataset.h5", MAIN)
    return {"folder": folder, "dataset": dataset} | chain(folder, dataset)


# --- superpixels ------------------------------------------------------------------------------------------------------

PHOTOS = {"wide": (1024, 2048), "photo": (375, 500), "strip": (281, 500)}
DESCRIPTION = """
name = "photos"
classes = [{{ name = "thing", color = [255, 0, 0] }}]
[splits.train]
images = "{folder}/{{id}}.png"
"""


def prepared(folder, names, **how):
    """A dataset of photos, from files."""
    for name in names:
        (folder / name).mkdir()
        Image.fromarray(patchwork(len(name), PHOTOS[name])[0]).save(folder / name / "i.png")
        description = folder / f"{name}.toml"
        description.write_text(DESCRIPTION.format(folder=name))
        yield prepare.run(str(description), folder, folder / f"{name}.h5", PrepareSettings(**how))


def cut_by_recipe(dataset, output, **own):
    """The regions of the only image, cut as the recipe says."""
    chosen = resolve("extract-superpixels", {"workers": 1} | own, "madbal").settings
    regions = Superpixels(extract_superpixels.run(dataset, output, chosen))
    (image,) = regions.ids
    return regions.labels(image)


@pytest.mark.parametrize(
    "name, prepare_settings, grid_scale, size, count",
    [
        ("wide", {}, 0.25, (256, 512), 512),
        ("photo", {"long_side": 400}, 1.0, (300, 400), 108),
        ("photo", {"long_side": 800}, 0.5, (300, 400), 108),
        ("strip", {"long_side": 400}, 1.0, (224, 400), 350),
        ("strip", {"long_side": 800}, 0.5, (224, 400), 350),
    ],
)
def test_check_1_superpixels_have_the_published_grid_and_count(
    tmp_path, name, prepare_settings, grid_scale, size, count
):
    (dataset,) = prepared(tmp_path, [name], **prepare_settings)
    labels = cut_by_recipe(dataset, tmp_path / "first.h5", grid_scale=grid_scale)
    assert labels.shape == size
    assert (np.unique(labels) == np.arange(count)).all()
    if grid_scale < 1:
        assert (cut_by_recipe(dataset, tmp_path / "second.h5", grid_scale=grid_scale, workers=2) == labels).all()


@pytest.mark.parametrize("colour, ignored", [("equalised-hsv", True), ("equalised-unit-hsv", False)])
def test_check_1_hue_beyond_the_first_degree_is_ignored_as_published_only(monkeypatch, colour, ignored):
    image, original, seen = patchwork(0, (128, 192))[0], seeds.seeds_colours, []
    chosen = {"region_pixels": 256, "colour": colour, "levels": 5, "bins": 10}
    labels = cut(image, "seeds", **chosen)
    assert (cut(image.copy(), "seeds", **chosen) == labels).all()

    def replaced(*arguments):
        hsv = original(*arguments)
        degrees = hsv[..., 0] if ignored else 360 * hsv[..., 0]
        seen.append((degrees >= 0.9).mean())
        hsv[..., 0] = np.where(degrees >= 0.9, 180 if ignored else 0.5, hsv[..., 0])
        return hsv

    monkeypatch.setattr(seeds, "seeds_colours", replaced)
    assert (cut(image, "seeds", **chosen) == labels).all() == ignored
    assert seen[0] > 0.5


def test_check_2_equalisation_pools_the_channels():
    values = np.array([[[0, 10, 10], [20, 20, 20]]], dtype=np.uint8)
    assert equalised(values).ravel().tolist() == pytest.approx([1 / 6, 0.5, 0.5, 1, 1, 1], abs=1e-12)


# --- scoring ----------------------------------------------------------------------------------------------------------


@st.composite
def maps(draw):
    """Scores with ties, predictions and regions of a small map: some of one pixel, some empty, some pixels asked."""
    size = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    values = draw(hnp.arrays(np.float32, size, elements=st.sampled_from([0.0, 0.25, 0.5, 3.5])))
    predicted = draw(hnp.arrays(np.int64, size, elements=st.integers(0, 2)))
    labels = draw(hnp.arrays(np.int64, size, elements=st.sampled_from([-1, 0, 1, 3, 6])))
    return values, predicted, labels


@given(world=maps())
@hypothesis_settings(max_examples=150, deadline=None)
def test_check_10_pooling_equals_a_slow_loop(world):
    """Regions 2, 4 and 5 never have pixels: ids need not follow one another."""
    values, predicted, labels = world
    tensors = [torch.from_numpy(array) for array in world]
    sums, histogram = region_sums(*tensors, 7, 3)
    highest, y, x = best_pixels(tensors[0], tensors[2], 7)
    for region in range(7):
        pixels = [place for place in np.ndindex(*labels.shape) if labels[place] == region]
        assert histogram[region].sum() == len(pixels)
        if not pixels:
            assert (highest[region], y[region], x[region]) == (0, -1, -1)
            continue
        classes = [predicted[place] for place in pixels]
        assert sums[region].sum() / len(pixels) == pytest.approx(np.mean([values[place] for place in pixels]))
        assert histogram[region].tolist() == [classes.count(each) for each in range(3)]
        assert histogram[region].argmax() == min(range(3), key=lambda each: (-classes.count(each), each))
        first = max(pixels, key=lambda place: (values[place], -place[0], -place[1]))
        assert (highest[region], y[region], x[region]) == (values[first], *first)


def test_maps_come_on_the_grid_alike_however_many_there_are():
    """To the last bit: a batch is no more than its images."""
    stacked = torch.randn(4, 3, 5, 64, 96, generator=torch.Generator().manual_seed(0))
    for values in (stacked, stacked[:, 0].contiguous(memory_format=torch.channels_last)):
        together = interpolated(values, (32, 48))
        for number in range(1, 4):
            assert torch.equal(torch.cat([interpolated(part, (32, 48)) for part in values.split(number)]), together)


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


@pytest.fixture(scope="module")
def pixel_scores(world):
    """Maps of the scores of rounds 1 and 2: the same models, asked for pixels."""
    found = {}
    for number in range(1, ROUNDS):
        of_pixels = changed(settings_of("scores", number), {"unit": "pixel", "grid_scale": 0.5})
        output, model = world["folder"] / f"pixels{number}.h5", world[f"support{number - 1}"]
        found[number] = Scores(score.run(world["dataset"], output, of_pixels, model))
    return found


def test_scores_are_those_of_the_definition(world, pixel_scores):
    """Checks 5 to 9 put together, by the stage."""
    with Dataset(world["dataset"]) as data:
        for image in data.ids("train"):
            expected, _ = slow_scores(world["support0"], data.image(image))
            found = pixel_scores[1].map(image)
            assert found.shape == (32, 48)
            assert found == pytest.approx(expected, rel=1e-4)
            assert found.std() > 0


def remaining(world, number):
    """Per image the regions without what was asked before round ``number``."""
    regions, ledger = Superpixels(world["base"]), Annotations(world[f"ledger{number - 1}"])
    for image in regions.ids:
        labels = regions.labels(image)
        labels[ledger.queried_pixels(image)] = -1
        yield image, labels


@pytest.mark.parametrize("number", range(1, ROUNDS))
def test_check_10_region_scores_hold_what_is_left(world, pixel_scores, number):
    regions, scores = Superpixels(world["base"]), Scores(world[f"scores{number}"])
    size, y, x = (scores.read(f"regions/{name}") for name in ("size", "y", "x"))
    mean, predicted = scores.read("regions/uncertainty"), scores.read("regions/predicted")
    with Dataset(world["dataset"]) as data:
        for image, labels in remaining(world, number):
            rows = regions.rows[image]
            assert size[rows].sum() + BUDGET * number == labels.size
            values = pixel_scores[number].map(image)
            classes = slow_scores(world[f"support{number - 1}"], data.image(image))[1]
            for region in range(regions.number(image)):
                inside, row = labels == region, rows.start + region
                assert size[row] == inside.sum()
                assert mean[row] == pytest.approx(values[inside].mean(dtype=np.float64), rel=1e-6)
                best = np.where(inside, values, -1).argmax()
                assert (y[row], x[row]) == divmod(best, labels.shape[1])
                assert predicted[row] == np.bincount(classes[inside]).argmax()
    table = scores.read("clusters/class_regions")
    probability = table / table.sum(0)
    assert probability.sum(0) == pytest.approx(1)
    weights = np.exp(-probability[predicted, scores.read("regions/cluster")])
    assert scores.region_scores() == pytest.approx(mean * weights, rel=1e-6)


# --- selection --------------------------------------------------------------------------------------------------------


def slow_choice(values, labels, classes, clusters, number):
    """(image, y, x) of every query: sections 5.5 to 6.4 one thing after the other; dicts by image, clusters (K,)."""
    regions = []
    for image in sorted(labels):
        for region in range(len(clusters[image])):
            pixels = np.argwhere(labels[image] == region)
            if len(pixels):
                scores = [values[image][tuple(place)] for place in pixels]
                kind = np.bincount([classes[image][tuple(place)] for place in pixels]).argmax()
                place = tuple(pixels[int(np.argmax(scores))].tolist())
                u = float(np.mean(scores, dtype=np.float64))
                regions.append((image, clusters[image][region], kind, u, len(pixels), place))
    table = np.zeros((CLASSES, number))
    for _, cluster, kind, *_ in regions:
        table[kind, cluster] += 1
    table /= table.sum(0)
    g = [
        sum(u for _, own, _, u, _, _ in regions if own == cluster)
        / sum(pixels for _, own, _, _, pixels, _ in regions if own == cluster)
        for cluster in range(number)
    ]
    budget = [math.floor(BUDGET * worth / sum(g)) for worth in g]
    budget[budget.index(min(budget))] += BUDGET - sum(budget)
    chosen = set()
    for image in sorted(labels):
        own = [region for region in regions if region[0] == image]
        room = [sum(region[1] == cluster for region in own) for cluster in range(number)]
        taken = [min(pair) for pair in zip(budget, room, strict=True)]
        while sum(taken) < min(BUDGET, sum(room)):
            taken[max((c for c in range(number) if taken[c] < room[c]), key=lambda c: (g[c], -c))] += 1
        for cluster in range(number):
            rows = [region for region in own if region[1] == cluster]
            rows.sort(key=lambda region: -region[3] * math.exp(-table[region[2], cluster]))
            chosen |= {(image, *region[5]) for region in rows[: taken[cluster]]}
    return chosen


@pytest.mark.parametrize("number", range(1, ROUNDS))
def test_queries_are_those_of_the_definition(world, pixel_scores, number):
    regions, clusters = Superpixels(world["base"]), Clusters(world["clusters"])
    queries = Queries(world[f"queries{number}"])
    labels = dict(remaining(world, number))
    with Dataset(world["dataset"]) as data:
        classes = {image: slow_scores(world[f"support{number - 1}"], data.image(image))[1] for image in labels}
    values = {image: pixel_scores[number].map(image) for image in labels}
    of_images = {image: clusters.of_regions[regions.rows[image]] for image in labels}
    found = {
        (queries.ids[row], y, x)
        for row, y, x in zip(queries.image.tolist(), queries.y.tolist(), queries.x.tolist(), strict=True)
    }
    assert found == slow_choice(values, labels, classes, of_images, clusters.number)
    counts = queries.header.counts
    assert sum(counts["cluster_budget"]) == BUDGET
    assert (np.bincount(queries.cluster, minlength=clusters.number) == counts["cluster_queries"]).all()
    assert (queries.cluster == clusters.of_regions[queries.region]).all()


def test_check_14_every_image_gets_its_budget_in_every_round(world):
    regions, ledger = Superpixels(world["base"]), Annotations(world[f"ledger{ROUNDS - 1}"])
    for image in regions.ids:
        rows = ledger.rows_of(image)
        y, x = ledger.queried_pixels(image)
        assert len(rows) == len(set(zip(y.tolist(), x.tolist(), strict=True))) == BUDGET * ROUNDS
        inside = regions.labels(image)[y, x]
        for number in range(ROUNDS):
            of_round = inside[ledger.answers.round[rows] == number]
            assert len(np.unique(of_round)) == len(of_round) == BUDGET
    for number in range(ROUNDS):
        queries = Queries(world[f"queries{number}"])
        assert queries.unit == "pixel"
        assert queries.sizes["a"] == (32, 48)
        images = np.array(queries.ids)[queries.image]
        each = [regions.rows[image].start for image in images]
        found = [regions.labels(image)[y, x] for image, y, x in zip(images, queries.y, queries.x, strict=True)]
        assert (queries.region == np.add(each, found)).all()


@pytest.mark.parametrize("number", range(1, ROUNDS))
def test_check_14_the_best_pixel_of_a_superpixel_is_asked(world, pixel_scores, number):
    queries, regions = Queries(world[f"queries{number}"]), Superpixels(world["base"])
    labels = dict(remaining(world, number))
    for row, y, x, region in zip(queries.image, queries.y, queries.x, queries.region, strict=True):
        image = queries.ids[row]
        inside = labels[image] == region - regions.rows[image].start
        assert inside[y, x]
        assert y * 48 + x == np.where(inside, pixel_scores[number].map(image), -1).argmax()


def test_check_14_answers_are_the_mask_read_on_the_grid(world):
    ledger = Annotations(world[f"ledger{ROUNDS - 1}"])
    with Dataset(world["dataset"]) as data:
        answers = ledger.answers
        for image in ledger.ids:
            rows = ledger.rows_of(image)
            y, x = answers.y[rows], answers.x[rows]
            mask = data.mask(image)
            assert (answers.label[rows] == mask[2 * y, 2 * x]).all()
            labels = ledger.label_map(image)
            assert (labels[y, x] == mask[2 * y, 2 * x]).all()
            labels[y, x] = VOID
            assert (labels == VOID).all()
    assert set(answers.label.tolist()) == {*range(CLASSES), VOID}


def test_check_14_the_ground_truth_changes_no_query(world, tmp_path):
    """Other masks below the same images from the start, and below the model and ledger of round 1."""
    other = patchworks(tmp_path / "other.h5", MAIN, change=other_classes)
    base, clusters = parts(tmp_path, other)
    assert read_any_header(clusters).digest == read_any_header(world["clusters"]).digest
    assert read_any_header(other).digest != read_any_header(world["dataset"]).digest
    found = Queries(asked(tmp_path, other, base)[1])
    assert found.digest == read_any_header(world["queries0"]).digest
    swapped = shutil.copy(world["dataset"], tmp_path / "swapped.h5")  # its header, and so its digest, stays as it was
    with h5py.File(swapped, "r+") as file:
        for name in MAIN:
            file[f"masks/{name}"][:] = other_classes(file[f"masks/{name}"][:])
    before, support = world["ledger0"], world["support0"]
    scores, queries = asked(tmp_path, Path(swapped), world["base"], 1, world["clusters"], before, support)
    for path, name in ((scores, "scores1"), (queries, "queries1")):
        assert read_any_header(path).digest == read_any_header(world[name]).digest
    answered = annotate_simulate.run(Path(swapped), queries, tmp_path / "ledger.h5", AnnotateSettings(), before)
    old = Annotations(world["ledger1"]).answers.label
    assert (Annotations(answered).answers.label[-BUDGET:] != old[-BUDGET:]).all()


def test_check_14_same_seed_same_queries_for_any_batch_and_workers(world, tmp_path):
    """Everything of two rounds again, elsewhere and otherwise."""
    dataset = world["dataset"]
    base, clusters = parts(tmp_path, dataset, workers=2)
    made = {"base": base, "clusters": clusters}
    made["scores0"], made["queries0"] = asked(tmp_path, dataset, base)
    answers = settings_of("annotations")
    ledger = annotate_simulate.run(dataset, made["queries0"], tmp_path / "ledger0.h5", answers)
    made["model0"], made["support0"] = trained(tmp_path, dataset, ledger, 0, workers=1)
    round_1 = asked(tmp_path, dataset, base, 1, clusters, ledger, made["support0"], batch=3)
    made |= {"ledger0": ledger, "scores1": round_1[0], "queries1": round_1[1]}
    for name, path in made.items():
        assert read_any_header(path).digest == read_any_header(world[name]).digest, name
    others = settings_of("queries", 0, seed=1), settings_of("scores", 0, seed=1)
    drawn = score.run(dataset, tmp_path / "other.h5", others[1], superpixels=base)
    drawn = select.run(dataset, drawn, tmp_path / "drawn.h5", others[0], superpixels=base)
    assert read_any_header(drawn).digest != read_any_header(world["queries0"]).digest


def test_the_reference_recipe_chooses_the_same_for_any_batch(world, tmp_path):
    """One divergence per image, and what is left over dealt out at random: by image, not by batch."""
    found = set()
    for batch in (1, 4):
        scored = settings_of("scores", 1, "madbal-reference", batch=batch)
        before, output = world["ledger0"], tmp_path / f"s{batch}.h5"
        scores = score.run(
            world["dataset"], output, scored, world["support0"], world["base"], world["clusters"], before
        )
        chosen = settings_of("queries", 1, "madbal-reference")
        path = select.run(world["dataset"], scores, tmp_path / f"q{batch}.h5", chosen, before, world["base"])
        found |= {(read_any_header(scores).digest, read_any_header(path).digest)}
        queries = Queries(path)
        assert (np.bincount(queries.image) == BUDGET).all()
        assert len(np.unique(queries.region)) == len(queries)
    assert len(found) == 1
    assert found != {(read_any_header(world["scores1"]).digest, read_any_header(world["queries1"]).digest)}


# --- training and metric ----------------------------------------------------------------------------------------------


def test_check_15_class_weights_are_one_less_the_share():
    assert label_weights("complement", np.array([60, 30, 10])).tolist() == pytest.approx([0.4, 0.7, 0.9])
    assert label_weights("complement", np.array([60, 30, 10, 0])).tolist() == pytest.approx([0.4, 0.7, 0.9, 1])
    for name in RECIPES:
        assert settings_of("model", recipe=name).of_objective.class_weights == "complement"
        assert settings_of("support", recipe=name).of_objective.class_weights == "complement"


def test_check_15_a_label_of_the_grid_is_sixteen_of_the_image(tmp_path):
    """Labels of 256 x 512 on an image of 1024 x 2048; padding adds none."""
    mask = stream(0, "mask").integers(0, 5, (1024, 2048)).astype(np.uint8)
    dataset = write_dataset(tmp_path / "d.h5", {"a": np.where(mask == 4, VOID, mask)}, CLASSES)
    scored = ScoreSettings(measure="random", grid_scale=0.25)
    scores = score.run(dataset, tmp_path / "s.h5", scored)
    chosen = SelectSettings(rule="top", budget=50)
    queries = select.run(dataset, scores, tmp_path / "q.h5", chosen)
    path = annotate_simulate.run(dataset, queries, tmp_path / "l.h5", AnnotateSettings())
    ledger = Annotations(path)
    given = int((ledger.answers.label != VOID).sum())
    assert 0 < given < 50
    assert ledger.label_map("a").shape == (256, 512)
    plain = {"scale_range": (1.0, 1.0), "flip": 0.0, "jitter": 0.0, "grey": 0.0, "blur": 0.0}
    for crop in (None, (1100, 2200)):
        _, labels, _, _ = samples_of(dataset, path, TrainSettings(**plain, crop=crop))[0, 0]
        assert labels.shape == (crop or (1024, 2048))
        assert (labels != VOID).sum() == 16 * given
        y, x = np.nonzero(labels != VOID)
        assert (labels[y, x] == ledger.label_map("a")[y // 4, x // 4]).all()


def test_check_15_padding_and_void_have_no_gradient():
    labels = np.array([[0, VOID], [1, 2]], np.uint8)
    labels = crop_labels(labels, Window(4, 4, 0, 0, 6, 5, False))
    assert (labels[4:] == VOID).all()
    assert (labels[:, 4:] == VOID).all()
    logits = torch.randn(1, 3, 6, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    total, mass = cross_entropy(logits, torch.from_numpy(labels)[None], torch.tensor([0.4, 0.7, 0.9]))
    (total / mass).backward()
    assert torch.equal(logits.grad[0].any(0), torch.from_numpy(labels != VOID))


def test_check_15_learning_rates(world):
    """Phase I poly from 0.01 without a warm-up; phase II constant."""
    recipe = load_recipe("madbal")
    for profile in (None, "cityscapes", "voc2012", "camvid"):
        model, support = (
            step_settings(recipe, load_profile(profile), step).optimisation
            for name in ("model", "support")
            for step in recipe.steps
            if step.name == name
        )
        assert (model.schedule, model.optimiser, model.sgd.momentum, model.weight_decay) == ("poly", "sgd", 0.9, 1e-4)
        assert model.head_lr == model.backbone_lr == support.head_lr == 0.01
        factor = build_schedule(changed(model, {"epochs": 150}), 100)
        assert model.head_lr * factor(0) == 0.01
        assert model.head_lr * factor(7500) == pytest.approx(0.00535887, abs=5e-9)
        factor = build_schedule(support, 7)
        assert {factor(step) for step in range(7 * support.epochs)} == {1}
        poly = build_schedule(changed(support, {"schedule": "poly"}), 10)
        assert 0.01 * poly(5 * support.epochs) == pytest.approx(0.00535887, abs=5e-9)
    assert [row["lr_factor"] for row in history(world["support0"])] == [1, 1]


def test_check_15_phase_two_leaves_the_network_bit_by_bit(world, tmp_path):
    """Parameters and statistics, in both checkpoints; of the heads all parameters move."""
    for number in range(ROUNDS - 1):
        model, support = (Model(world[f"{name}{number}"]) for name in ("model", "support"))
        network = model.weights("last")
        assert not any(name.startswith("support.") for name in network)
        assert any(name.endswith("running_var") for name in network)
        for checkpoint in ("last", "best"):
            found = support.weights(checkpoint)
            frozen = {name: tensor for name, tensor in found.items() if not name.startswith("support.")}
            assert frozen.keys() == network.keys()
            assert all(torch.equal(network[name], tensor) for name, tensor in frozen.items())
        torch.manual_seed(torch_seed(0, "initialisation"))
        untrained = build_network(recorded_network(support.attributes["network"]), CLASSES, support=True)
        learned = support.weights("last")
        for name, parameter in untrained.support.named_parameters():
            assert not torch.equal(parameter, learned[f"support.{name}"]), name
        assert not model.has_support
        assert support.has_support
    best = settings_of("support", recipe="madbal-reference")
    again = Model(train.run(world["dataset"], world["ledger0"], tmp_path / "s.safetensors", best, world["model0"]))
    start, kept = Model(world["model0"]).weights("best"), again.weights("last")
    assert all(torch.equal(tensor, kept[name]) for name, tensor in start.items())


def test_check_15_thresholds_are_those_of_the_grid_enlarged(world):
    """Mean loss of every class over its labelled pixels of whole images, each of 2 x 2 pixels (4.3.2)."""
    model, ledger = Model(world["model0"]), Annotations(world["ledger0"])
    predictor = load_predictor(model, "last", torch.device("cpu"), "auto")
    losses = {number: [] for number in range(CLASSES)}
    with Dataset(world["dataset"]) as data:
        for image in ledger.ids:
            logits = predictor.logits(torch.from_numpy(data.image(image)).permute(2, 0, 1)[None])[0].double()
            labels = ledger.label_map(image).repeat(2, 0).repeat(2, 1)
            for y, x in np.argwhere(labels != VOID):
                label = int(labels[y, x])
                losses[label].append(-float(logits[:, y, x].log_softmax(0)[label]))
    found = Model(world["support0"]).header.counts["class_thresholds"]
    assert [found[f"class{number}"] for number in losses] == [
        pytest.approx(np.mean(own), rel=1e-5) if own else None for own in losses.values()
    ]


def test_check_16_mean_iou():
    pairs = [(0, 0)] * 3 + [(0, 1), (1, 0)] + [(1, 1)] * 5
    truth, predicted = torch.tensor(pairs).T
    confusion = confusion_matrix(truth, predicted, 2)
    assert confusion.tolist() == [[3, 1], [1, 5]]
    assert intersection_over_union(confusion.numpy()) == pytest.approx([0.6, 0.714286], abs=5e-7)
    assert mean_iou(confusion.numpy()) == pytest.approx(0.657143, abs=5e-7)
    assert pixel_accuracy(confusion.numpy()) == 0.8
    void = torch.tensor([VOID, VOID])
    with_void = confusion_matrix(torch.cat([truth, void]), torch.cat([predicted, torch.tensor([0, 1])]), 2)
    assert torch.equal(with_void, confusion)


# --- what is missing --------------------------------------------------------------------------------------------------

# An odd size, an image of one region, one that is void all over; last batches of one in training and validation
AWKWARD = {"a": (64, 96), "b": (64, 96), "c": (64, 96), "odd": (65, 97), "tiny": (8, 8), "zero": (64, 96)}
AWKWARD |= {"v0": (64, 96), "v1": (64, 96), "v2": (64, 96)}
CLUSTERS = 200


@pytest.fixture(scope="module")
def awkward(tmp_path_factory):
    """Two rounds with more clusters than regions, the training on crops that often hold no label."""
    folder = tmp_path_factory.mktemp("awkward")
    dataset = patchworks(folder / "dataset.h5", AWKWARD, void=("zero", "v2"))
    base = write_superpixels(folder, dataset, grid_scale=0.5)
    random = ClusterSettings(method="random", clusters=CLUSTERS)
    clusters = cluster_regions.run(dataset, base, folder / "clusters.h5", random)
    queries0 = asked(folder, dataset, base)[1]
    ledger0 = annotate_simulate.run(dataset, queries0, folder / "ledger0.h5", AnnotateSettings())
    model, support = trained(folder, dataset, ledger0, 0, epochs=6, batch=2, crop=(16, 16), validate_every=2)
    scores1, queries1 = asked(folder, dataset, base, 1, clusters, ledger0, support)
    ledger1 = annotate_simulate.run(dataset, queries1, folder / "ledger1.h5", AnnotateSettings(), ledger0)
    return dict(locals())


def test_check_17_nothing_stored_is_a_nan(awkward):
    for name in ("clusters", "queries0", "ledger0", "scores1", "queries1", "ledger1"):
        with Artifact(awkward[name]) as artifact:
            for path, values in artifact.arrays():
                if values.dtype.kind == "f":
                    assert np.isfinite(values[()]).all(), (name, path)
    for name in ("model", "support"):
        assert all(math.isfinite(value) for row in history(awkward[name]) for value in row.values())
        for checkpoint in ("last", "best"):
            weights = Model(awkward[name]).weights(checkpoint)
            assert all(tensor.isfinite().all() for tensor in weights.values() if tensor.is_floating_point())
    with Dataset(awkward["dataset"]) as data:
        assert (data.mask("zero") == VOID).all()
        assert (data.mask("v2") == VOID).all()


def test_check_17_empty_clusters_get_no_budget(awkward):
    scores, queries = Scores(awkward["scores1"]), Queries(awkward["queries1"])
    empty = scores.read("clusters/regions") == 0
    assert empty.sum() >= CLUSTERS - Superpixels(awkward["base"]).count > 0
    assert (scores.read("clusters/pixels")[empty] == 0).all()
    assert (np.array(queries.header.counts["cluster_score"])[empty] == 0).all()
    assert (np.array(queries.header.counts["cluster_queries"])[empty] == 0).all()
    # what rounding leaves goes to the first cluster with the fewest, even to an empty one; others then take it
    assert sum(queries.header.counts["cluster_budget"]) == BUDGET


def test_check_17_an_image_of_one_region_gives_what_it_has(awkward, capsys):
    for number in (0, 1):
        queries = Queries(awkward[f"queries{number}"])
        found = dict(zip(queries.ids, np.bincount(queries.image).tolist(), strict=True))
        assert found == {"a": 4, "b": 4, "c": 4, "odd": 4, "tiny": 1, "zero": 4}
        counts = queries.header.counts
        assert (counts["asked"], counts["queries"], counts["shortfall"]) == (24, 21, 3)
    chosen, folder = settings_of("queries", 1), awkward["folder"]
    arguments = awkward["dataset"], awkward["scores1"], folder / "again.h5", chosen, awkward["ledger0"], awkward["base"]
    select.run(*arguments)
    assert "3 fewer than budgeted" in capsys.readouterr().out


def test_check_17_an_image_that_is_void_costs_and_teaches_nothing(awkward):
    ledger = Annotations(awkward["ledger1"])
    assert (ledger.answers.label[ledger.rows_of("zero")] == VOID).all()
    assert len(ledger.rows_of("zero")) == 2 * BUDGET
    assert ledger.labelled_ids() == ["a", "b", "c", "odd", "tiny"]
    assert Model(awkward["model"]).header.counts["labelled_images"] == 5


def test_check_17_odd_sizes_read_the_mask_where_the_grid_says(awkward):
    ledger = Annotations(awkward["ledger1"])
    assert ledger.sizes["odd"] == (32, 48)
    y, x = ledger.queried_pixels("odd")
    with Dataset(awkward["dataset"]) as data:
        assert (ledger.answers.label[ledger.rows_of("odd")] == data.mask("odd")[y * 65 // 32, x * 97 // 48]).all()


def test_check_17_batches_without_labels_and_of_one_image_are_left_out(awkward):
    """Five images in batches of two: two steps an epoch; some of them find no label in their crops."""
    for name in ("model", "support"):
        rows = history(awkward[name])
        assert [row["step"] for row in rows] == list(range(2, 14, 2))
        assert 0 < sum(row["updates"] for row in rows) < 12
        assert all((row["loss"] > 0) == (row["updates"] > 0) for row in rows)
    assert [("val_area" in row) for row in history(awkward["support"])] == [False, True] * 3


def test_check_17_void_images_count_nowhere_in_an_evaluation(awkward, tmp_path):
    """All of a batch, and the last of it."""
    found = []
    for batch in (1, 2, 3):
        chosen = EvaluateSettings(split="val", batch=batch, device="cpu")
        path = evaluate.run(awkward["dataset"], [awkward["model"]], tmp_path / f"e{batch}.h5", chosen)
        found.append(Evaluation(path))
    confusion = found[0].confusion
    assert all((evaluation.confusion == confusion).all() for evaluation in found)
    with Dataset(awkward["dataset"]) as data:
        known = sum(int((data.mask(f"v{number}") != VOID).sum()) for number in range(3))
    assert confusion[0].sum() == known
    assert np.isfinite(found[0].read("miou")).all()


# --- ablations --------------------------------------------------------------------------------------------------------

ABLATIONS = {  # override: the step that it is for, and the words of its command
    "score.maturity=none": ("scores", "--maturity none"),
    "score.lossiness=false": ("scores", "--no-lossiness"),
    "cluster-regions.method=random": ("clusters", "--method random"),
    "cluster-regions.clusters=5": ("clusters", "--clusters 5"),
    "score.class_balance=none": ("scores", "--class-balance none"),
    "select.remainder=largest": ("queries", "--remainder largest"),
    "score.maturity=image": ("scores", "--maturity image"),
    "extract-superpixels.method=slic": ("base", "--method slic"),
}


def planned(name, profile, override):
    """The rules of two rounds."""
    plan = read_plan(name, profile, [override])
    check_settings(plan)
    return build_rules(plan, 2, ["--recipe", name, "--profile", profile])


@pytest.mark.parametrize("override", ABLATIONS)
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", RECIPES)
def test_ablations_are_plans_of_every_profile(name, profile, override):
    step, words = ABLATIONS[override]
    rules = planned(name, profile, override)
    made = {"$(DATASET)"}
    for rule in rules:
        assert set(rule.needs) <= made
        made.add(rule.target)
    changed = [rule for rule in rules if Path(rule.target).stem == step]
    assert words in " ".join(changed[-1].words)
    assert all(words not in " ".join(rule.words) for rule in rules if rule not in changed)


@pytest.mark.parametrize("override", ABLATIONS)
def test_commands_of_ablations_reach_their_stages_as_planned(monkeypatch, override):
    """What the last command of the step hands to its stage, and nothing is run."""
    step, _ = ABLATIONS[override]
    rule = [rule for rule in planned("madbal", "scenes", override) if Path(rule.target).stem == step][-1]
    got = []
    module = {"base": extract_superpixels, "clusters": cluster_regions, "scores": score, "queries": select}[step]
    monkeypatch.setattr(module, "run", lambda **arguments: got.extend(arguments.values()))
    words = [word.replace("$(DATASET)", "d.h5").replace("$(RUN)", "run").replace("$@", "out.h5") for word in rule.words]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    (settings,) = (value for value in got if isinstance(value, stages.settings.base.StageSettings))
    name, value = override.partition(".")[2].split("=")
    assert str(settings.flat()[name]).lower() == value


@pytest.mark.parametrize("name, value", [("maturity", "none"), ("lossiness", False), ("class_balance", "none")])
def test_ablations_of_scores_choose_otherwise(world, tmp_path, name, value):
    given = world["dataset"], world["base"], 1, world["clusters"], world["ledger0"], world["support0"]
    scores, queries = asked(tmp_path, *given, **{name: value})
    assert read_any_header(scores).digest != read_any_header(world["scores1"]).digest
    assert (np.bincount(Queries(queries).image) == BUDGET).all()


def test_without_maturity_and_lossiness_support_heads_change_nothing(world, tmp_path):
    plain = settings_of("scores", 1, maturity="none", lossiness=False)
    found = set()
    for name in ("model0", "support0"):
        given = world[name], world["base"], world["clusters"], world["ledger0"]
        found.add(read_any_header(score.run(world["dataset"], tmp_path / f"{name}.h5", plain, *given)).digest)
    assert len(found) == 1


# --- refusals ---------------------------------------------------------------------------------------------------------


def refused(world, tmp_path, what):
    """Calls that cannot be right, by what is wrong with them."""
    dataset, base, clusters, output = world["dataset"], world["base"], world["clusters"], tmp_path / "out.h5"
    ledger, support = world["ledger0"], world["support0"]
    scored, chosen = settings_of("scores", 1), settings_of("queries", 1)
    plain = {"unit": "region", "measure": "entropy", "device": "cpu"}

    def made(name, *arguments, **own):
        return score.run(dataset, tmp_path / f"{name}.h5", ScoreSettings(**plain | own), *arguments)

    match what:
        case "no support heads for maturity":
            score.run(
                dataset, output, settings_of("scores", 1, lossiness=False), world["model0"], base, clusters, ledger
            )
        case "no support heads for lossiness":
            score.run(
                dataset, output, settings_of("scores", 1, maturity="none"), world["model0"], base, clusters, ledger
            )
        case "no clusters for the balance":
            score.run(dataset, output, scored, support, base, None, ledger)
        case "clusters of other regions":
            other = write_superpixels(tmp_path, dataset, grid_scale=0.5)
            score.run(dataset, output, scored, support, other, clusters, ledger)
        case "clusters without a prediction":
            score.run(dataset, output, settings_of("scores", 0), None, base, clusters)
        case "a ledger of another grid":
            fine = write_superpixels(tmp_path, dataset)
            score.run(dataset, output, settings_of("scores", 0), None, fine, None, ledger)
        case "pixels with clusters":
            score.run(dataset, output, ScoreSettings(measure="entropy"), support, None, clusters)
        case "no best pixels":
            select.run(
                dataset, made("s", support, base), output, SelectSettings(answer="pixel", rule="top"), None, base
            )
        case "no clusters for the rule":
            found = made("s", support, base, best_pixel=True)
            select.run(dataset, found, output, SelectSettings(answer="pixel", rule="clusters"), None, base)
        case "scores without the ledger":
            found = made("s", support, base, clusters, best_pixel=True)
            select.run(dataset, found, output, chosen, ledger, base)
        case "scores with a ledger that is not given":
            select.run(dataset, world["scores1"], output, chosen, None, base)
        case "scores with another ledger":
            select.run(dataset, world["scores1"], output, chosen, world["ledger1"], base)
        case "scores of pixels":
            found = score.run(dataset, tmp_path / "s.h5", ScoreSettings(measure="random"))
            select.run(dataset, found, output, chosen)
        case "support without a model":
            train.run(dataset, ledger, tmp_path / "m.safetensors", settings_of("support"))
        case "support without the best weights":
            chosen = settings_of("model", validation_split="none")
            model = train.run(dataset, ledger, tmp_path / "m.safetensors", chosen)
            train.run(dataset, ledger, tmp_path / "s.safetensors", settings_of("support", checkpoint="best"), model)
        case "the same regions without superpixels":
            select.run(dataset, world["scores1"], output, chosen, ledger)


@pytest.mark.parametrize(
    "what, remedy",
    [
        ("no support heads for maturity", "Train them with --objective support"),
        ("no support heads for lossiness", "Train them with --objective support"),
        ("no clusters for the balance", "--class-balance cluster requires --clusters"),
        ("clusters of other regions", "made from another superpixels"),
        ("clusters without a prediction", "--clusters has nothing to count. Omit it"),
        ("a ledger of another grid", "on the same grid"),
        ("pixels with clusters", "require --unit region with --superpixels"),
        ("no best pixels", "Score with --best-pixel"),
        ("no clusters for the rule", "Score with --clusters"),
        ("scores without the ledger", "Score with the same --annotations"),
        ("scores with a ledger that is not given", "Pass the same --annotations to select"),
        ("scores with another ledger", "made from another annotations"),
        ("scores of pixels", r"Rule clusters serves regions, and .* has pixels\. Use pool, power"),
        ("support without a model", "Pass --model"),
        ("support without the best weights", "Use last"),
        ("the same regions without superpixels", "Pass --superpixels"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_remedy(world, tmp_path, what, remedy):
    with pytest.raises(BadInput, match=remedy):
        refused(world, tmp_path, what)
    assert not (tmp_path / "out.h5").exists()


def test_artifacts_of_the_chain_are_sound(world):
    """Every one opens as what it is and says which seed made it."""
    for name, path in world.items():
        if name not in ("folder", "dataset"):
            assert open_any(path).header.seed == 0
