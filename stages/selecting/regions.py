"""Queries of regions, as a whole or of their best pixels."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.clusters import Clusters
from stages.artifacts.hdf5 import require_made_from
from stages.artifacts.purposes import CONTROL
from stages.artifacts.scores import Scores
from stages.artifacts.superpixels import Superpixels
from stages.runtime.errors import BadInput
from stages.runtime.free_memory import require_memory
from stages.runtime.randomness import stream
from stages.selecting.candidates import Candidates
from stages.selecting.chooser import Chooser
from stages.selecting.extra import Columns, Extra, Mixture, keys
from stages.selecting.pixels import extra_pixels, image_budgets, pixel_budget, pixel_counts
from stages.selecting.pool import budget_counts, excluded_regions, queried_regions
from stages.selecting.seconds import Allowance
from stages.settings.select import RegionQueries


@dataclass(frozen=True)
class RegionPool:
    """The regions that may be queried: ``left`` (R,) bool of all."""

    regions: Superpixels
    scores: Scores
    ledger: Annotations | None
    clusters: Clusters | None
    left: np.ndarray
    round: int

    def within(self, rows: slice) -> tuple[Candidates, np.ndarray]:
        """The candidates among the regions ``rows``, those of one image or of all, and their global indices (N,)."""
        index = rows.start + np.flatnonzero(self.left[rows])

        def queried() -> np.ndarray:
            return self.features[rows.start + np.flatnonzero(self.queried[rows])]

        lazy: dict[str, Callable[[], Any]] = {
            "features": lambda: self.features[index],
            "queried_features": queried,
            "predicted": lambda: self.predicted[index],
            "cluster": lambda: self.cluster[index].astype(np.int64),
            "tables": self.scores.cluster_tables,
        }
        pool = Candidates(
            unit="region",
            scores=self.values[index],
            image=self.regions.images_of(index),
            total=rows.stop - rows.start,
            round=self.round,
            lazy=lazy,
        )
        return pool, index

    @property
    def all_rows(self) -> slice:
        return slice(0, self.regions.count)

    @cached_property
    def values(self) -> np.ndarray:
        """(R,) f64 scores."""
        return self.scores.region_scores().astype(np.float64)

    @cached_property
    def predicted(self) -> np.ndarray:
        """(R,) i64 predicted class, -1 for void."""
        return self.scores.region_classes()

    @cached_property
    def queried(self) -> np.ndarray:
        """(R,) bool."""
        return queried_regions(self.regions, self.ledger)

    @cached_property
    def features(self) -> np.ndarray:
        """(R,D) f16 from the scores, otherwise from the clusters."""
        if self.scores.has_region_features:
            return self.scores.region_features()
        if self.clusters is None:
            raise BadInput(
                "Features of regions come from their scores or clusters. Score with a model and --keep-features, or "
                "pass --clusters, the output of cluster-regions."
            )
        if not self.clusters.has_features:
            raise BadInput(f"{self.clusters.path} has no features. Build it with --method kmeans --keep-features.")
        return self.clusters.features()

    @cached_property
    def cluster(self) -> np.ndarray:
        """(R,) u8."""
        if self.clusters is not None and not self.scores.has_clusters:
            return self.clusters.of_regions
        return self.scores.region_clusters()


def choose_regions(
    regions: Superpixels,
    scores: Scores,
    ledger: Annotations | None,
    clusters: Clusters | None,
    settings: RegionQueries,
    budget: int,
    chooser: Chooser,
    mixture: Mixture,
    allowed: Allowance | None = None,
) -> tuple[Columns, dict[str, Any]]:
    """Queries (columns in rank order) and counts: of whole regions, or of the best pixel of each.

    The budget is a number (0: all; best pixels, or if set so: of each image), or the seconds of ``allowed``.
    """
    if settings.whole is None:
        total = pixel_budget(budget, len(regions.ids)) if allowed is None else allowed.number()
        return choose_best_pixels(regions, scores, ledger, clusters, settings, total, chooser, mixture)
    excluded = excluded_regions(regions, ledger, settings.whole.exclude_queried)
    budget *= len(scores.ids) if settings.whole.per_image else 1
    budget = (budget if allowed is None else allowed.number()) or int((~excluded).sum())
    extra, left = extra_regions(regions, scores, ~excluded, mixture, budget)
    # scores f64 of all, and of those left their scores f64, indices and images i64
    needed = 8 * regions.count + 3 * 8 * int(left.sum())
    require_memory(needed, "select", f"for {regions.count} regions")
    pool = RegionPool(regions, scores, ledger, clusters, left, chooser.round)
    candidates, index = pool.within(pool.all_rows)
    if allowed is None:
        found = chooser.positions(candidates, max(budget - len(extra.index), 0), "dataset")
    else:
        found = allowed.positions(chooser, candidates, index, extra.index)
        budget = len(extra.index) + len(found) if len(found) < len(index) else budget
    chosen = {"image": candidates.image[found], "region": index[found], "score": candidates.scores[found]}
    columns = extra.before(chosen, {"image": extra.image, "region": extra.index, "score": pool.values[extra.index]})
    region = columns["region"]
    if "clusters" in chooser.rule.facts["needs"]:
        columns["cluster"] = pool.cluster[region]
    counts = {
        "excluded": int(excluded.sum()),
        "pixels": int(regions.region_sizes[region].sum(dtype=np.int64)),
        **chooser.described(candidates, budget),
    }
    return columns, counts | (budget_counts(budget, len(region)) if chooser.keeps_to_budget else {})


def extra_regions(
    regions: Superpixels, scores: Scores, left: np.ndarray, mixture: Mixture, total: int
) -> tuple[Extra, np.ndarray]:
    """The regions among ``total`` queries that no rule chooses, and which of those ``left`` (R,) bool it can choose."""
    extra, left = mixture.known("region", scores, regions, total), left.copy()
    left[extra.index] = False
    region = mixture.control(np.flatnonzero(left), total)
    left[region] = False
    return extra.followed_by(Extra.of(regions.images_of(region), region, CONTROL)), left


def choose_best_pixels(
    regions: Superpixels,
    scores: Scores,
    ledger: Annotations | None,
    clusters: Clusters | None,
    settings: RegionQueries,
    asked: int,
    chooser: Chooser,
    mixture: Mixture,
) -> tuple[Columns, dict[str, Any]]:
    """One pixel in each region chosen; ``asked`` is the budget of all images (spec madbal.md 6).

    With scope image, each has an equal share of it. Pixels that no rule chooses may lie anywhere.
    """
    y, x = scores.best_pixels()
    require_same_ledger(scores, ledger)
    assert settings.pixels is not None

    def queried(number: int) -> np.ndarray:
        taken = np.zeros(scores.sizes[scores.ids[number]], dtype=bool)
        if ledger is not None:
            taken[ledger.queried_pixels(scores.ids[number])] = True
        return taken

    extra = extra_pixels(scores, queried, mixture, asked)
    widths = np.array([scores.sizes[image][1] for image in scores.ids], dtype=np.int64)
    every = regions.images_of(np.arange(regions.count))
    taken = np.isin(keys(every, y * widths[every] + x), keys(extra.image, extra.index))
    pool = RegionPool(regions, scores, ledger, clusters, (scores.pixels_left() > 0) & ~taken, chooser.round)
    parts: list[np.ndarray] = []
    told: dict[str, Any] = {}
    if settings.pixels.scope == "image":
        generator = stream(chooser.seed, "image_share", chooser.round)
        rest = image_budgets(extra.per_image(len(regions.ids)), asked, 1.0, generator).tolist()
        places = [(image, regions.rows[image], each) for image, each in zip(regions.ids, rest, strict=True)]
    else:
        places = [("dataset", pool.all_rows, max(asked - len(extra.image), 0))]
    for name, rows, each in places:
        candidates, index = pool.within(rows)
        parts.append(index[chooser.positions(candidates, each, name)])
        if len(parts) == 1:
            told = chooser.described(candidates, each)
    region = np.concatenate(parts)
    chosen = {"image": regions.images_of(region), "y": y[region], "x": x[region], "region": region}
    columns = extra.before(chosen, pixels_in_regions(regions, extra, widths))
    region = columns["region"]
    columns["score"] = np.where(region < 0, 0.0, pool.values[region])
    if scores.has_clusters:
        columns["cluster"] = np.where(region < 0, -1, pool.cluster[region].astype(np.int64))
    return columns, pixel_counts(columns["image"], columns["y"], columns["x"], asked) | told


def pixels_in_regions(regions: Superpixels, extra: Extra, widths: np.ndarray) -> Columns:
    """Image, y, x and region (-1: in none) of the pixels ``extra``; ``widths`` (N,) of the images."""
    region = np.full(len(extra.image), -1, dtype=np.int64)
    for number in np.unique(extra.image).tolist():
        rows, image = extra.rows_of(number), regions.ids[number]
        inside = regions.labels(image).ravel()[extra.index[rows]]
        region[rows] = np.where(inside < 0, -1, regions.rows[image].start + inside)
    y, x = np.divmod(extra.index, widths[extra.image])
    return {"image": extra.image, "y": y, "x": x, "region": region}


def require_same_ledger(scores: Scores, ledger: Annotations | None) -> None:
    """BadInput if the best pixels of ``scores`` may have been queried before, by a ledger that scoring did not read."""
    if ledger is None and scores.input_ref("annotations") is not None:
        raise BadInput(f"{scores.path} was scored with a ledger. Pass the same --annotations to select.")
    if ledger is not None and scores.input_ref("annotations") is None:
        raise BadInput(
            f"{scores.path} was scored without a ledger, so a region's best pixel may have been queried before. Score "
            "with the same --annotations."
        )
    if ledger is not None:
        require_made_from(scores, "annotations", ledger)
