"""Clusters of regions: mini-batch k-means of their features, or at random (spec madbal.md 3).

Features are (R,D) f16, in the order of the images and within them of their regions; ``numbers`` (N,) int are the
regions per image. Cityscapes has 1.5 million regions of 512 features, 1.6 GB: only a batch at a time is turned into
wider numbers.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.cluster import MiniBatchKMeans

from stages.runtime.errors import BadInput
from stages.runtime.randomness import stream
from stages.settings.cluster_regions import ClusterSettings

# Scikit-learn's, which only decides how often it looks for clusters that are hardly used (published: 1024); what it is
# fed with is ClusterSettings.batch.
ESTIMATOR_BATCH = 1024
ASSIGNED_TOGETHER = 4096
Advance = Callable[[int], None]


def require_enough(numbers: np.ndarray, settings: ClusterSettings) -> None:
    """BadInput unless the first batch has a region for every cluster, since the first centroids come from it."""
    wanted, regions = settings.clusters, int(numbers.sum())
    if regions < wanted:
        raise BadInput(
            f"There are only {regions} regions for {wanted} clusters; give fewer --clusters, or cut the images finer."
        )
    if settings.order == "shuffled" and settings.batch < wanted:
        raise BadInput(
            f"A batch of {settings.batch} regions cannot start {wanted} clusters; give --batch {wanted} or more."
        )
    if settings.order == "reference" and len(numbers) < 2:
        raise BadInput("The order reference takes two images at a time, and there is one; give --order shuffled.")
    if settings.order == "reference" and (first := int(numbers[-2:].sum())) < wanted:
        raise BadInput(
            f"The order reference starts with the last two images, which have {first} regions for {wanted} clusters; "
            "give --order shuffled or fewer --clusters."
        )


def feeding(numbers: np.ndarray, settings: ClusterSettings) -> Iterator[np.ndarray]:
    """The regions (B,) i64 of every batch of every pass.

    shuffled: each pass in an order of its own. reference: two images at a time from the last to the first, as the
    public code takes them from the end of its list; of an odd number the first is never used.
    """
    stops = np.concatenate([[0], np.cumsum(numbers)])
    for number in range(settings.passes):
        if settings.order == "shuffled":
            order = stream(settings.seed, "k-means pass", number).permutation(int(stops[-1]))
            yield from (order[start : start + settings.batch] for start in range(0, len(order), settings.batch))
        else:
            pairs = ((stops[last - 1], stops[last + 1]) for last in range(len(numbers) - 1, 0, -2))
            yield from (np.arange(start, stop) for start, stop in pairs if stop > start)


def kmeans(features: np.ndarray, numbers: np.ndarray, settings: ClusterSettings, advance: Advance) -> np.ndarray:
    """The centroids (K,D) f32 after all passes; ``advance`` is told the regions of every batch.

    BadInput where the first batch has fewer regions than there are clusters, and for features that are not finite.
    """
    require_enough(numbers, settings)
    if settings.order == "reference":
        random_state = np.random.RandomState(settings.seed % 2**32)  # that of the public code has seed 0
    else:
        random_state = np.random.RandomState(stream(settings.seed, "k-means").bit_generator)
    estimator = MiniBatchKMeans(
        settings.clusters, batch_size=ESTIMATOR_BATCH, compute_labels=False, random_state=random_state
    )
    for regions in feeding(numbers, settings):
        batch = features[regions].astype(np.float32)
        require_finite(batch)
        estimator.partial_fit(batch)
        advance(len(regions))
    return estimator.cluster_centers_.astype(np.float32)


def nearest_centroids(features: np.ndarray, centroids: np.ndarray, advance: Advance) -> tuple[np.ndarray, np.ndarray]:
    """For every region its nearest centroid (R,) u8, of equally near ones the first, and the squared distance (R,) f32.

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


def random_clusters(ids: Sequence[str], numbers: np.ndarray, settings: ClusterSettings) -> np.ndarray:
    """(R,) u8 uniform clusters, drawn per image, so that they do not depend on which other images there are."""
    drawn = [
        stream(settings.seed, "random clusters", image).integers(0, settings.clusters, number, dtype=np.uint8)
        for image, number in zip(ids, numbers, strict=True)
    ]
    return np.concatenate(drawn)


def require_finite(values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise BadInput(
            "Some features of the regions are not finite numbers; build them again with other --weights or --encoder."
        )
