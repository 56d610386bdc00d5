"""Scores of regions, and the columns that rules and class balances need."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.clusters import Clusters
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer
from stages.artifacts.model import Model
from stages.artifacts.shards import Fill, Parts
from stages.artifacts.superpixels import Superpixels
from stages.scoring.balance import class_shares, class_weights, probability_weights, rescaled
from stages.scoring.clusters import class_given_cluster, cluster_class_weights, cluster_tables
from stages.scoring.pixels import random_scores
from stages.settings.score import BalanceSettings, RegionScores, ScoreSettings

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Pool:
    """The regions to score: without the pixels that ``ledger`` covers, in ``clusters`` if there are any."""

    data: Dataset
    regions: Superpixels
    ledger: Annotations | None
    clusters: Clusters | None

    def labels(self, image: str) -> np.ndarray:
        """(H,W) i32 region ids, -1 = none, queried before, or labelled exactly."""
        labels = self.regions.labels(image)
        if self.ledger is not None and image in self.ledger.rows:
            labels[self.ledger.exact_area(image)] = -1
        return labels


def score_regions(pool: Pool, model: Model | None, settings: ScoreSettings) -> Fill:
    """Per region the measure and the pixels of each predicted class, and its best pixel; random: a uniform number."""
    regions, own = pool.regions, settings.region
    assert own is not None
    if model is None and own.region_score == "mean":

        def draw(writer: Writer, part: Sequence[str]) -> dict[str, Any]:
            for image in part:
                writer.rows("score", random_scores(settings.seed, image, regions.number(image)))
                writer.rows("left", regions.region_sizes[regions.rows[image]])
            return {}

        return draw
    if model is None:
        return draw_pixels(pool, settings.seed)
    import torch

    from stages.regions.reductions import best_pixels, region_sums
    from stages.scoring.maps import score_maps

    balance = own.balance
    assert balance is not None
    outputs = len(pool.data.classes) if balance.void_output == "drop" else model.outputs

    def fill(writer: Writer, part: Sequence[str]) -> dict[str, Any]:
        probability: dict[str, list[float]] = {}
        for maps in score_maps(pool.data, model, part, regions.sizes, outputs, settings):
            image, number = maps.image, regions.number(maps.image)
            labels = torch.from_numpy(pool.labels(image)).to(maps.scores.device).long()
            sums, histogram = region_sums(maps.scores, maps.predicted, labels, number, outputs)
            found = histogram > 0
            values = {
                "predicted": histogram.argmax(1).astype(np.uint8),  # ties: the smallest class
                "degree": found.sum(1),
                "class": np.nonzero(found)[1].astype(np.uint8),
                "pixels": histogram[found].astype(np.int32),
                "sums": sums[found],
                "left": histogram.sum(1).astype(np.int32),
            }
            if own.best_pixel or own.region_score == "highest":
                values |= dict(zip(("highest", "y", "x"), best_pixels(maps.scores, labels, number), strict=True))
            for name, column in values.items():
                writer.rows(name, column)
            if maps.features is not None:
                writer.rows("features", mean_features(maps.features, labels, number))
            if balance.probability is not None:
                probability[image] = maps.logits.softmax(0).mean(2).double().mean(1).tolist()
        return {"probability": probability}

    return fill


def mean_features(features: "Tensor", labels: "Tensor", number: int) -> np.ndarray:
    """(number,D) f16: the mean over the pixels of each region, labels (H,W) i64, of features (D,h,w) f32."""
    from stages.pixels.maps import lookup
    from stages.regions.reductions import region_means

    within = lookup(features, (labels.shape[-2], labels.shape[-1]))
    return region_means(within, labels, number).T.cpu().numpy().astype(np.float16)


def draw_pixels(pool: Pool, seed: int) -> Fill:
    """Random scores: the highest of one random number per pixel.

    The regions with the highest scores are those of pixels drawn one after another from the whole image, without
    counting a region twice (spec madbal.md 1).
    """
    import torch

    from stages.regions.reductions import best_pixels

    def draw(writer: Writer, part: Sequence[str]) -> dict[str, Any]:
        for image in part:
            labels, number = pool.labels(image), pool.regions.number(image)
            numbers = torch.from_numpy(random_scores(seed, image, pool.regions.sizes[image]))
            highest, y, x = best_pixels(numbers, torch.from_numpy(labels).long(), number)
            left = np.bincount(labels[labels >= 0], minlength=number).astype(np.int32)
            for name, values in {"score": highest, "y": y, "x": x, "left": left}.items():
                writer.rows(name, values)
        return {}

    return draw


def finish_regions(writer: Writer, parts: Parts, pool: Pool, settings: RegionScores) -> dict[str, Any]:
    """Writes the columns of all regions; the class balance needs all of them before it can weight one."""
    sizes = parts.column("left")
    writer.array("regions/size", sizes)
    counts: dict[str, Any] = {"regions": len(sizes)}
    if settings.best_pixel:
        for name in ("y", "x"):
            writer.array(f"regions/{name}", parts.column(name).astype(np.int32))
    if settings.kept is not None and settings.kept.keep_features:
        writer.array("regions/features", parts.column("features"))
    if settings.balance is None:  # random
        score = parts.column("score")
    else:
        score = finish_predicted(writer, parts, pool, sizes, counts, settings.region_score, settings.balance)
    score = np.where(sizes > 0, score, 0).astype(np.float32)
    writer.array("regions/score", score)
    return counts | {
        "mean": float(score.mean(dtype=np.float64)),
        "minimum": float(score.min()),
        "maximum": float(score.max()),
    }


def bytes_to_finish(regions: int, features: int, by_network: bool, whole: bool) -> int:
    """Bytes that `finish_regions` needs at least for so many ``regions`` with so many ``features`` each.

    Sizes i32 and scores f32; by a network instead of the scores numbers of classes i64, classes u8, and means f64 while
    they are divided. If the regions are ``whole``, without queried pixels, each also has a predicted class: its number
    u8, its sum f64 and its region i64. Features are f16, twice while the shards are joined.
    """
    tables = 4 + (8 + 1 + 2 * 8 + (1 + 8 + 8 if whole else 0) if by_network else 4)
    return regions * max(tables, 4 + 2 * 2 * features)


def finish_predicted(
    writer: Writer,
    parts: Parts,
    pool: Pool,
    sizes: np.ndarray,
    counts: dict[str, Any],
    region_score: str,
    balance: BalanceSettings,
) -> np.ndarray:
    """(R,) scores by a network; writes class balance and cluster tables, adds the class shares to ``counts``."""
    data, degree = pool.data, parts.column("degree")
    classes, of_class, sums = parts.column("predicted"), parts.column("class"), parts.column("sums")
    owner = np.repeat(np.arange(len(sizes)), degree)
    writer.array("regions/predicted", classes)
    writer.array("histogram/offsets", np.concatenate([[0], np.cumsum(degree)]).astype(np.int64))
    writer.array("histogram/class", of_class)
    writer.array("histogram/pixels", parts.column("pixels"))
    writer.array("histogram/score", sums.astype(np.float32))
    outputs = len(data.classes) + (balance.void_output != "drop")
    shares = pool_shares(parts, data, classes, sizes, outputs, balance.class_balance)

    def means(values: np.ndarray) -> np.ndarray:
        """(R,) f64 means over a region's pixels, from sums per region and predicted class."""
        return np.bincount(owner, values, len(sizes)) / np.maximum(sizes, 1)

    uncertainty = means(sums) if region_score == "mean" else parts.column("highest").astype(np.float64)
    weighed = rescaled(uncertainty) if balance.rescale else uncertainty
    of_clusters = None
    if pool.clusters is not None:
        of_clusters = write_clusters(writer, pool.clusters, classes, uncertainty, sizes, outputs)
    weights = np.ones(outputs)
    if balance.probability is not None:  # weights each pixel by its own class
        weights = probability_weights(shares, balance.probability.balance_strength)
        score = means(sums * weights[of_class])
    elif balance.share is not None:
        weights = class_weights(shares, balance.share.share_scale)
        score = weighed * weights[classes]
    elif balance.class_balance == "cluster":  # weights the region by the class of most of its pixels
        assert of_clusters is not None
        score = weighed * of_clusters
    else:
        score = weighed
    if balance.void_output == "ban":
        score = np.where(classes == len(data.classes), 0, score)
    writer.array("regions/uncertainty", uncertainty.astype(np.float32))
    writer.array("classes/share", shares)
    writer.array("classes/weight", weights)
    names = [*data.classes, "void"][:outputs]
    counts["share"] = {name: float(share) for name, share in zip(names, shares, strict=True)}
    return score


def write_clusters(
    writer: Writer, clusters: Clusters, predicted: np.ndarray, score: np.ndarray, sizes: np.ndarray, outputs: int
) -> np.ndarray:
    """Writes what a rule needs to split a budget over clusters; (R,) weights of the regions by class and cluster.

    (spec madbal.md 5.6 and 6.3)
    """
    cluster = clusters.of_regions
    tables = cluster_tables(cluster, predicted, score, sizes, clusters.number, outputs)
    writer.array("regions/cluster", cluster)
    for name, values in tables._asdict().items():
        writer.array(f"clusters/{name}", values)
    return cluster_class_weights(class_given_cluster(tables.class_regions), predicted, cluster)


def pool_shares(
    parts: Parts, data: Dataset, predicted: np.ndarray, sizes: np.ndarray, outputs: int, balance: str
) -> np.ndarray:
    """(outputs,) f64 share of each class in the pool: of its regions, its pixels, or its probability."""
    if balance != "probability":
        return class_shares(predicted, sizes, outputs, "pixels" if balance == "pixels" else "regions")
    means = parts.merged("probability")
    pixels = np.array([data.sizes[image][0] * data.sizes[image][1] for image in means], dtype=np.float64)
    return np.average(np.array(list(means.values())), 0, pixels)
