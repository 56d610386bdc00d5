"""Queries of regions, as a whole or of their best pixels."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.clusters import Clusters
from stages.artifacts.hdf5 import require_made_from
from stages.artifacts.scores import Scores
from stages.artifacts.superpixels import Superpixels
from stages.runtime.errors import BadInput
from stages.selecting.candidates import Candidates
from stages.selecting.chooser import Chooser
from stages.selecting.pixels import Columns, pixel_counts, require_pixel_budget
from stages.selecting.pool import budget_counts, excluded_regions, queried_regions
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
    def queried(self) -> np.ndarray:
        """(R,) bool."""
        return queried_regions(self.regions, self.ledger)

    @cached_property
    def features(self) -> np.ndarray:
        """(R,D) f16."""
        if self.clusters is None:
            raise BadInput(
                "Features of regions come from their clusters. Pass --clusters, the output of cluster-regions."
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
) -> tuple[Columns, dict[str, Any]]:
    """Queries (columns in rank order) and counts: of whole regions, or of the best pixel of each."""
    if settings.whole is None:
        return choose_best_pixels(regions, scores, ledger, clusters, settings, budget, chooser)
    excluded = excluded_regions(regions, ledger, settings.whole.exclude_queried)
    pool = RegionPool(regions, scores, ledger, clusters, ~excluded, chooser.round)
    candidates, index = pool.within(pool.all_rows)
    budget = budget or len(index)
    found = chooser.positions(candidates, budget, "dataset")
    region = index[found]
    columns = {"image": candidates.image[found], "region": region, "score": candidates.scores[found]}
    if "clusters" in chooser.rule.facts["needs"]:
        columns["cluster"] = pool.cluster[region]
    counts = {
        "excluded": int(excluded.sum()),
        "pixels": int(regions.region_sizes[region].sum(dtype=np.int64)),
        **chooser.described(candidates, budget),
    }
    return columns, counts | (budget_counts(budget, len(region)) if chooser.keeps_to_budget else {})


def choose_best_pixels(
    regions: Superpixels,
    scores: Scores,
    ledger: Annotations | None,
    clusters: Clusters | None,
    settings: RegionQueries,
    budget: int,
    chooser: Chooser,
) -> tuple[Columns, dict[str, Any]]:
    """One pixel in each region chosen; ``budget`` is that of one image (spec madbal.md 6).

    With scope dataset, the images share the sum of their budgets.
    """
    y, x = scores.best_pixels()
    require_same_ledger(scores, ledger)
    require_pixel_budget(budget)
    assert settings.pixels is not None
    pool = RegionPool(regions, scores, ledger, clusters, scores.pixels_left() > 0, chooser.round)
    asked = budget * len(regions.ids)
    parts: list[np.ndarray] = []
    told: dict[str, Any] = {}
    if settings.pixels.scope == "image":
        places = [(image, regions.rows[image], budget) for image in regions.ids]
    else:
        places = [("dataset", pool.all_rows, asked)]
    for name, rows, each in places:
        candidates, index = pool.within(rows)
        parts.append(index[chooser.positions(candidates, each, name)])
        if len(parts) == 1:
            told = chooser.described(candidates, each)
    region = np.concatenate(parts)
    image = regions.images_of(region)
    columns = {"image": image, "y": y[region], "x": x[region], "region": region, "score": pool.values[region]}
    if scores.has_clusters:
        columns["cluster"] = pool.cluster[region]
    return columns, pixel_counts(image, columns["y"], columns["x"], asked) | told


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
