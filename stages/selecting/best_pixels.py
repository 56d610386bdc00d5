"""Queries of pixels, one in each of the regions that are chosen: the region's best pixel."""

from collections.abc import Callable
from typing import Any

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.hdf5 import require_made_from
from stages.artifacts.scores import Scores
from stages.artifacts.superpixels import Superpixels
from stages.runtime.errors import BadInput
from stages.selecting.cluster_budgets import (
    ClusterTables,
    best_per_cluster,
    best_per_image,
    cluster_budgets,
    cluster_scores,
    deal_budgets,
    spread_budgets,
)
from stages.selecting.statistics import mean_coverage
from stages.settings.select import SelectSettings

Generators = Callable[[str], np.random.Generator]


def choose_best_pixels(
    regions: Superpixels,
    scores: Scores,
    ledger: Annotations | None,
    settings: SelectSettings,
    generators: Generators,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Queries (columns image, y, x, region, cluster, score in rank order) and counts.

    The budget of every image goes to its highest-scored regions, in all or cluster by cluster (spec madbal.md 6); with
    scope dataset the budgets of all images go to the highest-scored regions wherever they are.
    """
    require_best_pixels(scores, ledger, settings)
    every, left = scores.region_scores().astype(np.float64), scores.read("regions/size") > 0
    images, number = regions.images_of(np.arange(regions.count)), len(regions.ids)
    asked = settings.budget * number
    counts: dict[str, Any] = {}
    if settings.rule == "clusters":
        found, counts = choose_by_clusters(regions, scores, every, left, images, settings, generators)
    elif settings.scope == "image":
        found = best_per_image(images, every, left, settings.budget)
    else:
        found = best_per_image(np.zeros_like(images), every, left, asked)
    if not len(found):
        raise BadInput("There are no pixels left to ask about; the ledger already covers the pool.")
    y, x = (scores.read(f"regions/{name}")[found] for name in ("y", "x"))
    image = images[found]
    counts = {
        "queries": len(found),
        "images": len(np.unique(image)),
        "asked": asked,
        "shortfall": asked - len(found),
        "mean_score": float(every[found].mean()),
        "mean_coverage": mean_coverage(image, y, x),
    } | counts
    chosen = {"image": image, "y": y, "x": x, "region": found, "score": every[found]}
    if scores.has_clusters:
        chosen["cluster"] = scores.read("regions/cluster")[found]
    return chosen, counts


def require_best_pixels(scores: Scores, ledger: Annotations | None, settings: SelectSettings) -> None:
    """BadInput where the scores do not say which pixels to ask, or would ask again what ``ledger`` covers."""
    if not scores.has_best_pixels:
        raise BadInput(f"{scores.path} does not say which pixel of a region is best; score with --best-pixel.")
    if settings.rule not in ("top", "clusters"):
        raise BadInput(
            f"The rule {settings.rule} does not choose among regions with --answer pixel; set top or clusters."
        )
    if settings.rule == "clusters" and not scores.has_clusters:
        raise BadInput(f"{scores.path} has no clusters; score with --clusters, or choose by the rule top.")
    if settings.budget == 0:
        raise BadInput("A budget of 0 asks for all images, and these queries are of pixels; set --budget to 1 or more.")
    if ledger is None and scores.input_ref("annotations") is not None:
        raise BadInput(f"{scores.path} was scored with a ledger; give it to select as --annotations too.")
    if ledger is not None and scores.input_ref("annotations") is None:
        raise BadInput(
            f"{scores.path} was scored without a ledger, so a region's best pixel may be one that was asked before; "
            "score with the same --annotations."
        )
    if ledger is not None:
        require_made_from(scores, "annotations", ledger)


def choose_by_clusters(
    regions: Superpixels,
    scores: Scores,
    every: np.ndarray,
    left: np.ndarray,
    images: np.ndarray,
    settings: SelectSettings,
    generators: Generators,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Global indices of the chosen regions, and how the budget was shared out (spec madbal.md 6.1 to 6.3)."""
    cluster = scores.read("regions/cluster").astype(np.int64)
    tables = ClusterTables(*(scores.read(f"clusters/{name}") for name in ClusterTables._fields))
    worth = cluster_scores(settings.cluster_score, tables)
    budgets, number = cluster_budgets(worth, settings.budget, settings.remainder), len(worth)
    pairs = np.bincount((images * number + cluster)[left], minlength=len(regions.ids) * number)
    capacity = pairs.reshape(-1, number)
    if settings.redistribution == "best":
        allowance = spread_budgets(budgets, capacity, worth)
    else:
        allowance = np.stack(
            [
                deal_budgets(budgets, row, generators(image), worth)
                for image, row in zip(regions.ids, capacity, strict=True)
            ]
        )
    found = best_per_cluster(images, cluster, every, left, allowance)
    counts = {
        "cluster_score": worth.tolist(),
        "cluster_budget": budgets.tolist(),
        "cluster_queries": np.bincount(cluster[found], minlength=number).tolist(),
    }
    return found, counts
