"""Clusters of features: the orders of the regions, the same for the same seed, nearest centroids, refusals, memory."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import MiniBatchKMeans

from stages.regions.clustering import batches, kmeans, nearest_centroids, random_clusters, require_enough
from stages.runtime.errors import BadInput
from stages.settings.cluster_regions import KMeansSettings


def blobs(numbers: list[int], centres: int = 4, width: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features (R,D) f16 around well-separated centres, and the centre (R,) of each."""
    generator = np.random.default_rng(seed)
    centre = generator.integers(0, centres, sum(numbers))
    places = generator.permutation(np.arange(centres * width).reshape(centres, width) * 3.0)
    return (places[centre] + generator.normal(0, 0.2, (len(centre), width))).astype(np.float16), centre


def nothing(regions: int) -> None:
    pass


def fed(numbers: list[int], seed: int = 0, **values: object) -> list[list[int]]:
    return [batch.tolist() for batch in batches(np.array(numbers), KMeansSettings(**values), seed)]


def test_shuffled_every_pass_takes_every_region_once_in_an_order_of_its_own():
    found = fed([5, 0, 7, 3], passes=3, batch=4)
    passes = [[region for batch in found[start : start + 4] for region in batch] for start in range(0, 12, 4)]
    assert [len(batch) for batch in found] == [4, 4, 4, 3] * 3
    assert all(sorted(each) == list(range(15)) for each in passes)
    assert len({tuple(each) for each in passes}) == 3
    assert fed([5, 0, 7, 3], passes=3, batch=4) == found
    assert fed([5, 0, 7, 3], passes=3, batch=4, seed=1) != found


def test_reference_takes_two_images_at_a_time_from_the_end_and_never_the_first_of_an_odd_number():
    assert fed([2, 1, 3, 2], passes=1, order="reference") == [[3, 4, 5, 6, 7], [0, 1, 2]]
    assert fed([2, 1, 3], passes=2, order="reference") == [[2, 3, 4, 5]] * 2
    assert fed([2, 0, 0, 1], passes=1, order="reference") == [[2], [0, 1]]
    assert fed([2, 0, 0], passes=1, order="reference") == []


@pytest.mark.parametrize("order", ["shuffled", "reference"])
def test_finds_what_is_there_and_again_the_same(order):
    numbers = [90, 110, 70, 130, 100]
    features, centre = blobs(numbers)
    # more clusters than centres: k-means++ from one batch may start twice in the same one
    settings = KMeansSettings(order=order, passes=3, batch=64)
    centroids = kmeans(features, np.array(numbers), 8, settings, 0, nothing)
    clusters, squared = nearest_centroids(features, centroids, nothing)
    assert centroids.dtype == np.float32
    assert clusters.dtype == np.uint8
    assert all(len(np.unique(centre[clusters == number])) <= 1 for number in range(8))
    assert squared.mean() < 1
    again = kmeans(features, np.array(numbers), 8, settings, 0, nothing)
    np.testing.assert_array_equal(centroids, again)
    other = kmeans(features, np.array(numbers), 8, settings, 1, nothing)
    assert (centroids != other).any()


def test_reference_is_scikit_learn_fed_by_hand():
    numbers = [40, 50, 60]
    features, _ = blobs(numbers)
    settings = KMeansSettings(order="reference", passes=2)
    estimator = MiniBatchKMeans(9, batch_size=1024, random_state=np.random.RandomState(0), max_iter=15)
    for _ in range(2):
        estimator.partial_fit(features[40:].astype(np.float32))
    found = kmeans(features, np.array(numbers), 9, settings, 0, nothing)
    np.testing.assert_array_equal(found, estimator.cluster_centers_)


@given(
    values=st.lists(st.lists(st.integers(-4, 4), min_size=3, max_size=3), min_size=1, max_size=30),
    centroids=st.lists(st.lists(st.integers(-4, 4), min_size=3, max_size=3), min_size=1, max_size=8),
)
@settings(max_examples=100, deadline=None)
def test_nearest_is_brute_force_and_the_first_of_equals(values, centroids):
    features, places = np.array(values, dtype=np.float16), np.array(centroids, dtype=np.float32)
    clusters, squared = nearest_centroids(features, places, nothing)
    for row, value in enumerate(values):
        distances = [sum((a - b) ** 2 for a, b in zip(value, place, strict=True)) for place in centroids]
        assert clusters[row] == distances.index(min(distances))
        assert squared[row] == min(distances)


def test_nearest_goes_in_batches_and_takes_256_clusters(monkeypatch):
    features = np.random.default_rng(0).normal(size=(1000, 8)).astype(np.float16)
    centroids = np.random.default_rng(1).normal(size=(256, 8)).astype(np.float32)
    told: list[int] = []
    whole = nearest_centroids(features, centroids, told.append)
    monkeypatch.setattr("stages.regions.clustering.ASSIGNED_TOGETHER", 64)
    for one, two in zip(whole, nearest_centroids(features, centroids, told.append), strict=True):
        np.testing.assert_array_equal(one, two)
    assert sum(told) == 2000
    assert whole[0].max() > 250
    brute = ((features[:, None].astype(np.float64) - centroids[None]) ** 2).sum(-1)
    np.testing.assert_array_equal(whole[0], brute.argmin(1))


def test_progress_is_told_every_region_of_every_pass():
    features, _ = blobs([50, 60])
    told: list[int] = []
    kmeans(features, np.array([50, 60]), 9, KMeansSettings(passes=3, batch=40), 0, told.append)
    assert sum(told) == 330


def test_many_equal_features_are_no_fault():
    features = np.ones((64, 5), dtype=np.float16)
    centroids = kmeans(features, np.array([32, 32]), 4, KMeansSettings(), 0, nothing)
    clusters, squared = nearest_centroids(features, centroids, nothing)
    assert np.isfinite(centroids).all()
    assert (clusters == clusters[0]).all()
    assert squared.max() < 1e-6


@pytest.mark.parametrize(
    "numbers, values, says",
    [
        (
            [3, 5],
            {},
            r"^--clusters 9 exceeds the number of regions \(8\)\. Lower it, or cut the images into more regions\.$",
        ),
        ([30, 5], {"batch": 8}, r"^A batch of 8 regions cannot start 9 clusters\. Raise --batch to 9\.$"),
        (
            [30, 5, 3],
            {"order": "reference"},
            r"^--order reference starts with the last two images, which have 8 regions for 9 clusters\. Set --order "
            r"shuffled, or lower --clusters\.$",
        ),
        (
            [30],
            {"order": "reference"},
            r"^--order reference needs two images, but there is only one\. Set --order shuffled\.$",
        ),
    ],
)
def test_too_few_regions_are_refused_with_a_remedy(numbers, values, says):
    with pytest.raises(BadInput, match=says):
        require_enough(np.array(numbers), 9, KMeansSettings(**values))
    with pytest.raises(BadInput, match=says):
        kmeans(np.zeros((sum(numbers), 2), np.float16), np.array(numbers), 9, KMeansSettings(**values), 0, nothing)


def test_features_that_are_no_numbers_are_refused():
    features, _ = blobs([20, 20])
    features[17, 2] = np.nan
    told = (
        r"^Some features of the regions are not finite numbers\. Compute them with other --weights or another "
        r"--encoder\.$"
    )
    with pytest.raises(BadInput, match=told):
        kmeans(features, np.array([20, 20]), 9, KMeansSettings(), 0, nothing)


def test_the_features_are_never_copied_as_a_whole():
    features, numbers = np.random.default_rng(0).normal(size=(40_000, 64)).astype(np.float16), np.full(400, 100)
    tracemalloc.start()
    centroids = kmeans(features, numbers, 9, KMeansSettings(passes=1), 0, nothing)
    nearest_centroids(features, centroids, nothing)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert features.nbytes > 5_000_000
    assert peak < features.nbytes * 0.9


def test_random_clusters_are_uniform_and_of_the_image_alone():
    both = random_clusters(["a", "b"], np.array([3000, 2000]), 5, 0)
    assert both.dtype == np.uint8
    assert np.bincount(both).min() > 900
    np.testing.assert_array_equal(both[3000:], random_clusters(["b"], np.array([2000]), 5, 0))
    assert (random_clusters(["a"], np.array([3000]), 5, 1) != both[:3000]).any()
    assert random_clusters(["a"], np.array([9000]), 256, 0).max() == 255
