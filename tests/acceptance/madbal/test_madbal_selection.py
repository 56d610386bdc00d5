"""Acceptance check 14 of MADBAL: which pixels are asked about in a round."""

import math
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from madbal_support import (
    BUDGET,
    CLASSES,
    MAIN,
    ROUNDS,
    asked,
    parts,
    patchworks,
    remaining,
    settings_of,
    slow_scores,
    trained,
)

from stages.artifacts.annotations import Annotations
from stages.artifacts.clusters import Clusters
from stages.artifacts.dataset import Dataset
from stages.artifacts.opening import open_any, read_any_header
from stages.artifacts.queries import Queries
from stages.artifacts.superpixels import Superpixels
from stages.commands import annotate_simulate, score, select
from stages.pixels.void import VOID
from stages.runtime import processes
from stages.settings.annotate_simulate import AnnotateSettings


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
    share = [BUDGET * worth / sum(g) for worth in g]
    budget = [math.floor(part) for part in share]
    for cluster in sorted(range(number), key=lambda c: budget[c] - share[c])[: BUDGET - sum(budget)]:
        budget[cluster] += 1
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


def other_classes(mask):
    """A mask whose every pixel has another class or none, and where void is known."""
    return np.where(mask == VOID, 0, np.where(mask == 0, VOID, (mask + 1) % CLASSES)).astype(np.uint8)


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


def test_check_14_same_seed_same_queries_for_any_batch_and_workers(world, tmp_path, monkeypatch):
    """Everything of two rounds again, elsewhere and otherwise."""
    dataset = world["dataset"]
    base, clusters = parts(tmp_path, dataset, workers=2)
    made = {"base": base, "clusters": clusters}
    made["scores0"], made["queries0"] = asked(tmp_path, dataset, base)
    answers = settings_of("annotations")
    ledger = annotate_simulate.run(dataset, made["queries0"], tmp_path / "ledger0.h5", answers)
    monkeypatch.setattr(processes, "START_METHOD", "fork")  # saves each loader process the import of torch
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


def test_artifacts_of_the_chain_are_sound(world):
    """Every one opens as what it is and says which seed made it."""
    for name, path in world.items():
        if name not in ("folder", "dataset"):
            assert open_any(path).header.seed == 0
