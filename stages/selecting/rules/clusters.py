"""A budget split over clusters of regions (Yazdani et al. 2023, MADBAL; spec madbal.md 6)."""

from typing import Any, Literal

import numpy as np
from pydantic import Field

from stages.runtime.console import say
from stages.selecting.candidates import Candidates
from stages.selecting.cluster_budgets import best_per_cluster, cluster_budgets, cluster_scores, redistributed
from stages.selecting.rules import rule
from stages.settings.base import PartSettings


class ClustersSettings(PartSettings):
    """Settings of the rule clusters."""

    cluster_score: Literal["reference", "pixel-mean", "region-mean"] = Field(
        "reference",
        description="Score of a cluster: mean score of its regions over their mean size, as in the public code; mean "
        "over pixels; or mean over regions.",
    )
    remainder: Literal["reference", "largest"] = Field(
        "largest",
        description="Clusters that get what rounding down leaves of the budget: those with the largest remainders, one "
        "each, or all of it the first with the smallest share, as in the public code.",
    )
    redistribution: Literal["best", "reference"] = Field(
        "best",
        description="Clusters that get what others cannot take: the highest-scored ones with regions left, or all "
        "others equally, dealt out and clipped repeatedly, as in the public code.",
    )


def shares(pool: Candidates, budget: int, settings: ClustersSettings) -> tuple[np.ndarray, np.ndarray]:
    """(K,) score and budget of each cluster."""
    scores = cluster_scores(settings.cluster_score, pool.tables)
    return scores, cluster_budgets(scores, budget, settings.remainder)


def describe(pool: Candidates, budget: int, settings: ClustersSettings) -> dict[str, Any]:
    """The clusters' scores and budgets for the header; warns if the budget is below the number of clusters."""
    scores, budgets = shares(pool, budget, settings)
    if budget < len(scores):
        say(
            f"Warning: the budget of {budget} is below the {len(scores)} clusters, so some get no query. Raise "
            "--budget or make fewer clusters."
        )
    return {"cluster_score": scores.tolist(), "cluster_budget": budgets.tolist()}


@rule("clusters", units=("region",), needs=("clusters",), describe=describe, settings=ClustersSettings)
def by_clusters(
    pool: Candidates, budget: int, settings: ClustersSettings, generator: np.random.Generator
) -> np.ndarray:
    """Take the highest-scored of each cluster, as many as the cluster's share of the budget."""
    if budget == len(pool):
        return np.arange(budget)
    scores, budgets = shares(pool, budget, settings)
    capacity = np.bincount(pool.cluster, minlength=len(scores))
    allowance = redistributed(settings.redistribution, budgets, capacity, scores, generator)
    return best_per_cluster(pool.cluster, pool.scores, allowance)
