"""Regions in clusters: scoring their pixels by maturity and lossiness, patches, choosing by clusters, k-means."""

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import entr, expit, rel_entr, softmax
from torch import Tensor, nn

from stages.datasets.scenes import generate_scene
from stages.networks.predictor import Predictor
from stages.networks.support import SupportMaps
from stages.pixels.edges import STRONGEST, WEAKEST
from stages.pixels.maps import lookup
from stages.regions.cut import cut
from stages.regions.graph import region_table
from stages.regions.patches import cut_patches
from stages.regions.reductions import best_pixels, region_sums
from stages.runtime.parts import RULES
from stages.runtime.processes import THREAD_LIMITS
from stages.runtime.randomness import stream
from stages.scoring.clusters import class_given_cluster, cluster_class_weights, cluster_tables
from stages.scoring.maps import scored
from stages.selecting.candidates import Candidates
from stages.selecting.chooser import Chooser
from stages.settings.cluster_regions import KMeansSettings
from stages.settings.score import ScoreSettings
from tests.bench.kmeans import CLUSTERS, FEATURES
from tests.bench.kmeans import PER_IMAGE as REGIONS
from tests.bench.measure import SEED, Job, Row, measure, plain, run

GRID = (256, 512)
CLASSES = 19
IMAGES = 2975  # of the Cityscapes training set
BUDGET = 20  # pixels of an image and round
PATCH = 16
NEAR = 1e-5  # between scores in f32 and in f64

# as in the recipe madbal
SEEDS = {"region_pixels": 256, "colour": "equalised-hsv", "levels": 5, "bins": 10}
SCORING = ScoreSettings.load(
    {"unit": "region", "measure": "entropy", "maturity": "pixel", "lossiness": True, "best_pixel": True}
)


def rows(job: Job) -> list[Row]:
    image, _ = generate_scene(SEED, "train", 0, *GRID)
    labels = cut(image, "seeds", **SEEDS)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        scoring = scoring_rows(image, labels, job.quick)
    finally:
        torch.set_num_threads(threads)
    return [*scoring, patch_row(image, labels, job.quick), *choice_rows(job), *kmeans_rows(job)]


# Scoring, from what a network gives.


class Scored(NamedTuple):
    """Of K regions: mean score (K,) f64, class of most pixels (K,), and where the best pixel is, y and x (K,) i64."""

    score: np.ndarray
    predicted: np.ndarray
    y: np.ndarray
    x: np.ndarray


class Given(Predictor):
    """Gives a network's output as if it had just computed it."""

    def __init__(self, logits: Tensor, support: SupportMaps):
        super().__init__(nn.Identity(), (0.0,) * 3, (1.0,) * 3, torch.device("cpu"))
        self.output = logits, support

    def support_maps(self, images: Tensor) -> tuple[Tensor, SupportMaps]:
        return self.output


def given(size: tuple[int, int]) -> Given:
    """Smooth random fields, laid out in memory as networks leave them: the classes of a pixel side by side."""
    random = torch.Generator().manual_seed(SEED)

    def fields(channels: int) -> Tensor:
        coarse = torch.randn(1, channels, 8, 16, generator=random)
        return F.interpolate(coarse, size, mode="bicubic")

    logits, sides = 10 * fields(CLASSES), 5 * fields(3 * CLASSES).view(1, 3, CLASSES, *size)
    mixing, lossiness = fields(3).softmax(1), fields(2)
    last = torch.channels_last
    support = SupportMaps(sides, mixing, lossiness.contiguous(memory_format=last))
    return Given(logits.contiguous(memory_format=last), support)


def as_scored(predictor: Predictor, image: Tensor, labels: np.ndarray, count: int) -> Scored:
    """In the order in which `stages.scoring` does it; image (1,3,H,W) u8, labels (h,w) i32 with -1 for asked pixels."""
    with torch.inference_mode():
        logits, scores = scored(predictor, image, GRID, CLASSES, SCORING)
        predicted, where = lookup(logits[0].max(0).indices, GRID), torch.from_numpy(labels).long()
        sums, pixels = region_sums(scores[0], predicted, where, count, CLASSES)
        _, y, x = best_pixels(scores[0], where, count)
    return Scored(sums.sum(1) / np.maximum(pixels.sum(1), 1), pixels.argmax(1), y, x)


def region_by_region(predictor: Given, image: np.ndarray, labels: np.ndarray, count: int) -> Scored:
    """``as_scored`` by its definition (madbal.md 4.4, 5.1 to 5.5), in f64, with a mask of the image per region."""
    import cv2

    logits, support = predictor.output
    final = logits[0].double().numpy()
    p = softmax(final, 0)
    scores = entr(p).sum(0)
    for side, weight in zip(support.sides[0].double().numpy(), support.mixing[0].double().numpy(), strict=True):
        q = softmax(side, 0)
        mean = (p + q) / 2
        scores += weight * (rel_entr(p, mean) + rel_entr(q, mean)).sum(0) / 2
    grey = cv2.cvtColor(cv2.GaussianBlur(image, (3, 3), 0), cv2.COLOR_BGR2GRAY)
    across, along = (cv2.convertScaleAbs(cv2.Sobel(grey, cv2.CV_16S, *way, ksize=3)) for way in ((1, 0), (0, 1)))
    strength = cv2.addWeighted(across, 0.5, along, 0.5, 0)
    at_edges, elsewhere = expit(support.lossiness[0].double().numpy())
    scores *= np.exp(np.where((strength >= WEAKEST) & (strength <= STRONGEST), at_edges, elsewhere))

    found = []
    for region in range(count):
        inside = labels == region
        y, x = np.nonzero(inside)
        best = scores[inside].argmax()
        predicted = np.bincount(final[:, inside].argmax(0)).argmax()
        found.append((scores[inside].mean(), predicted, y[best], x[best]))
    return Scored(*(np.array(column) for column in zip(*found, strict=True)))


def scoring_rows(image: np.ndarray, labels: np.ndarray, quick: bool) -> list[Row]:
    """A later round: 20 pixels of the image were asked before. The larger maps are of the same image, enlarged."""
    count, factor, repeat = int(labels.max()) + 1, 2 if quick else 4, 2 if quick else 10
    left = labels.copy()
    left.flat[stream(SEED, "asked").choice(left.size, BUDGET, replace=False)] = -1
    seen = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()
    large = seen.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    height, width = large.shape[-2:]
    small_maps = given(GRID)
    fast, slow = as_scored(small_maps, seen, left, count), region_by_region(small_maps, image, left, count)
    same = all(np.array_equal(ours, theirs) for ours, theirs in zip(fast[1:], slow[1:], strict=True))
    apart = float(np.abs(fast.score - slow.score).max())
    result = f"{'equal' if same and apart < NEAR else 'DIFFERENT'} (scores to {apart:.0e})"
    naive = measure(lambda: region_by_region(small_maps, image, left, count), 1 if quick else 3, warm_up=False)
    small = measure(lambda: as_scored(small_maps, seen, left, count), repeat)
    large_maps = given((height, width))
    brought = measure(lambda: as_scored(large_maps, large, left, count), repeat)
    what = f"scoring {count} regions from the outputs of a network, one thread"
    return [
        Row(f"scores, best pixels and classes of {count} regions, as of a region-by-region program", result, "equal"),
        Row("that region-by-region program itself", naive.text("s")),
        Row(f"{what}, maps of {GRID[0]}x{GRID[1]}", small.text("s"), "at most 0.3 s", "5 to 9 s"),
        Row(f"the same, maps of {height}x{width} brought onto that grid", brought.text("s")),
    ]


def patch_row(image: np.ndarray, labels: np.ndarray, quick: bool) -> Row:
    boxes = region_table(labels, int(labels.max()) + 1)
    taken = measure(lambda: cut_patches(image, labels, boxes, PATCH), 2 if quick else 10)
    what = f"patches of {PATCH}x{PATCH} of {labels.max() + 1} regions"
    return Row(what, taken.text("s"), "at most 0.05 s", "0.4 to 0.6 s")


# Choosing, from the scores of all regions in memory.


def choice_rows(job: Job) -> list[Row]:
    images = 50 if job.quick else IMAGES

    def per_image(redistribution: Literal["best", "reference"]) -> str:
        return measure(choice(images, redistribution), 1 if job.quick else 5).text("ms", 1e3 / images)

    what = f"shares of classes, budgets of clusters, {BUDGET} of {REGIONS} regions, {images} images at once"
    return [
        Row(f"{what}, per image", per_image("best"), "at most 5 ms", "1 to 4 ms"),
        Row("the same, the surplus dealt out as in the public code", per_image("reference")),
    ]


def choice(images: int, redistribution: Literal["best", "reference"]) -> Callable[[], np.ndarray]:
    """What `score` does once for all images and then `select`; in most images some clusters are short of regions."""
    rule = RULES["clusters"]
    chooser = Chooser(rule, rule.settings(redistribution=redistribution), 1, SEED)  # type: ignore[misc]
    random = stream(SEED, "pool")
    image = np.repeat(np.arange(images), REGIONS)
    share = random.dirichlet(np.full(CLUSTERS, 0.3), images).cumsum(1)[:, None, :-1]
    cluster = (random.random((images, REGIONS, 1)) > share).sum(2).ravel()
    predicted = random.integers(0, CLASSES, len(image), dtype=np.uint8)
    score, pixels = random.random(len(image)), random.integers(0, 2 * GRID[0], len(image), dtype=np.int32)

    def work() -> np.ndarray:
        tables = cluster_tables(cluster, predicted, score, pixels, CLUSTERS, CLASSES)
        weighed = score * cluster_class_weights(class_given_cluster(tables.class_regions), predicted, cluster)
        found = []
        for index in range(images):
            rows = slice(index * REGIONS, (index + 1) * REGIONS)
            left = rows.start + np.flatnonzero(pixels[rows] > 0)
            lazy = {"cluster": partial(cluster.take, left), "tables": lambda: tables}
            pool = Candidates(unit="region", scores=weighed[left], image=image[left], total=REGIONS, round=1, lazy=lazy)
            found.append(left[chooser.positions(pool, BUDGET, f"{index:05d}")])
        return np.concatenate(found)

    return work


# K-means, in a process of its own.


def kmeans_rows(job: Job) -> list[Row]:
    regions, passes = REGIONS * (20 if job.quick else IMAGES), KMeansSettings().passes
    loaded = [] if job.quick else ["stages.regions.features"]  # torch and timm, which take seconds
    environment = dict(os.environ) | dict.fromkeys(THREAD_LIMITS, "1")
    found = json.loads(run([sys.executable, "-m", "tests.bench.kmeans", str(regions), *loaded], environment))
    one, assigned = found["pass"], found["assigned"]
    what = f"k-means of {regions} regions with {FEATURES} features of 16 bits"
    peak = f"its peak memory with {found['features']:.0f} MB of features, torch {'not ' if job.quick else ''}loaded"
    return [
        Row(f"{what}, one pass, one thread", f"{plain(one)} s"),
        Row("the nearest centroid of each of them", f"{plain(assigned)} s"),
        Row(f"{passes} passes and the nearest centroids, scaled from those two", f"{plain(passes * one + assigned)} s"),
        Row(peak, f"{found['peak']:.0f} MB", "below 4000 MB"),
    ]
