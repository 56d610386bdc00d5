"""Clusters of regions: mini-batch k-means of their features, or random ones (madbal.md 3).

Features are (R,D) f16, in the order of the images and within each image in that of its regions; ``numbers`` (N,) int
are the regions per image. Cityscapes has 1.5 million regions of 512 features, 1.6 GB: only a batch at a time is
converted to wider numbers.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.cluster import MiniBatchKMeans

from stages.runtime.errors import BadInput
from stages.runtime.randomness import stream
from stages.settings.cluster_regions import KMeansSettings

# Scikit-learn's setting, which here only decides how often it looks for rarely used clusters (published: 1024); the
# actual batch size is KMeansSettings.batch.
ESTIMATOR_BATCH = 1024
ASSIGNED_TOGETHER = 4096
Advance = Callable[[int], None]


def require_enough(numbers: np.ndarray, clusters: int, settings: KMeansSettings) -> None:
    """BadInput unless the first batch has a region for each cluster, because the first centroids come from it."""
    regions = int(numbers.sum())
    if regions < clusters:
        raise BadInput(
            f"--clusters {clusters} exceeds the number of regions ({regions}). Lower it, or cut the images into "
            "more regions."
        )
    if settings.order == "shuffled" and settings.batch < clusters:
        raise BadInput(
            f"A batch of {settings.batch} regions cannot start {clusters} clusters. Raise --batch to {clusters}."
        )
    if settings.order == "reference" and len(numbers) < 2:
        raise BadInput("--order reference needs two images, but there is only one. Set --order shuffled.")
    if settings.order == "reference" and (first := int(numbers[-2:].sum())) < clusters:
        raise BadInput(
            f"--order reference starts with the last two images, which have {first} regions for {clusters} clusters. "
            "Set --order shuffled, or lower --clusters."
        )


def batches(numbers: np.ndarray, settings: KMeansSettings, seed: int) -> Iterator[np.ndarray]:
    """The regions (B,) i64 of each batch of all passes.

    shuffled: each pass in its own random order. reference: two images at a time from the last to the first, as in the
    public code; if the number of images is odd, the first is never used.
    """
    stops = np.concatenate([[0], np.cumsum(numbers)])
    for number in range(settings.passes):
        if settings.order == "shuffled":
            order = stream(seed, "k-means pass", number).permutation(int(stops[-1]))
            yield from (order[start : start + settings.batch] for start in range(0, len(order), settings.batch))
        else:
            pairs = ((stops[last - 1], stops[last + 1]) for last in range(len(numbers) - 1, 0, -2))
            yield from (np.arange(start, stop) for start, stop in pairs if stop > start)


def kmeans(
    features: np.ndarray, numbers: np.ndarray, clusters: int, settings: KMeansSettings, seed: int, advance: Advance
) -> np.ndarray:
    """The centroids (K,D) f32 after all passes; ``advance`` gets the number of regions of each batch.

    BadInput if the first batch has fewer regions than there are clusters, and for features that are not finite.
    """
    require_enough(numbers, clusters, settings)
    if settings.order == "reference":
        random_state = np.random.RandomState(seed % 2**32)  # the public code uses seed 0
    else:
        random_state = np.random.RandomState(stream(seed, "k-means").bit_generator)
    estimator = MiniBatchKMeans(clusters, batch_size=ESTIMATOR_BATCH, compute_labels=False, random_state=random_state)
    for regions in batches(numbers, settings, seed):
        batch = features[regions].astype(np.float32)
        require_finite_features(batch)
        estimator.partial_fit(batch)
        advance(len(regions))
    return estimator.cluster_centers_.astype(np.float32)


def nearest_centroids(features: np.ndarray, centroids: np.ndarray, advance: Advance) -> tuple[np.ndarray, np.ndarray]:
    """Each region's nearest centroid (R,) u8 (ties: the first), and the squared distance (R,) f32.

    centroids (K,D) f32, K up to 256. The differences are squared and summed in float64, so that equal centroids are
    equally far.
    """
    clusters = np.empty(len(features), dtype=np.uint8)
    squared = np.empty(len(features), dtype=np.float32)
    for start in range(0, len(features), ASSIGNED_TOGETHER):
        part = slice(start, start + ASSIGNED_TOGETHER)
        distances = cdist(features[part], centroids, "sqeuclidean")
        clusters[part] = distances.argmin(1)
        squared[part] = distances.min(1)
        advance(len(distances))
    return clusters, squared


def random_clusters(ids: Sequence[str], numbers: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """(R,) u8 uniform clusters, drawn per image, so that they do not depend on the other images."""
    drawn = [
        stream(seed, "random clusters", image).integers(0, clusters, number, dtype=np.uint8)
        for image, number in zip(ids, numbers, strict=True)
    ]
    return np.concatenate(drawn)


def require_finite_features(values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise BadInput(
            "Some features of the regions are not finite numbers. Compute them with other --weights or another "
            "--encoder."
        )
