"""Counts and sums of region clusters over all images, and the class balance within clusters.

After Yazdani et al., "Maturity-Aware Active Learning for Semantic Segmentation with Hierarchically-Adaptive Sample
Assessment" (BMVC 2023); spec madbal.md 5.6 and 6.3. Plain functions over flat arrays: R regions of all images, K
clusters, C classes.
"""

import numpy as np

from stages.artifacts.scores import ClusterTables
from stages.selecting.cluster_budgets import require_range


def cluster_tables(
    cluster: np.ndarray, predicted: np.ndarray, score: np.ndarray, pixels: np.ndarray, clusters: int, classes: int
) -> ClusterTables:
    """Counts and sums per cluster.

    cluster (R,) integer in 0..clusters-1, predicted (R,) u8 class, score (R,) f64 mean over the region's remaining
    pixels, pixels (R,) integer number of them. The other values of a region with 0 pixels are not read.
    Raises ValueError when a cluster or class is out of range.
    """
    left = pixels > 0
    cluster, predicted = cluster[left].astype(np.int64), predicted[left].astype(np.int64)
    score, pixels = score[left], pixels[left].astype(np.int64)
    require_range("cluster", cluster, clusters)
    require_range("class", predicted, classes)
    pairs = np.bincount(predicted * clusters + cluster, minlength=classes * clusters).reshape(classes, clusters)
    # Weights of bincount are f64: numbers of pixels are exact up to 2^53.
    numbers = np.bincount(cluster, pixels, clusters).astype(np.int64)
    return ClusterTables(
        class_regions=pairs,
        regions=pairs.sum(0),
        pixels=numbers,
        # For empty input bincount returns integers, whatever the weights.
        score=np.bincount(cluster, score, clusters).astype(np.float64, copy=False),
        pixel_score=np.bincount(cluster, pixels * score, clusters).astype(np.float64, copy=False),
    )


def class_given_cluster(class_regions: np.ndarray) -> np.ndarray:
    """(C,K) f64 P(c|k): every column of class_regions (C,K) i64 divided by its sum; 0 for an empty cluster."""
    return class_regions / np.maximum(class_regions.sum(0), 1)


def cluster_class_weights(probability: np.ndarray, predicted: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """(R,) f64 factors exp(-P(predicted|cluster)) of the regions' scores, 1/e to 1 (spec madbal.md 6.3).

    probability (C,K) f64 of `class_given_cluster`, predicted (R,) u8, cluster (R,) integer. Classes that dominate their
    cluster are queried later. Raises IndexError when a class or cluster is out of range.
    """
    return np.exp(-probability[predicted, cluster])
