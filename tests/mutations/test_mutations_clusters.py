"""Guards the seed of the k-means: another seed gives other centroids, the same seed the same.

The features and the order in which they are fed stay the same, so that the draws of the k-means alone can differ.
"""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from worlds import TINY, random_masks, write_clusters, write_dataset, write_superpixels

from stages.artifacts.clusters import Clusters
from stages.regions.clustering import batches, kmeans
from stages.settings.cluster_regions import KMeansSettings

IMAGES = [f"image{number}" for number in range(6)]
NUMBERS = np.full(4, 50)  # regions per image
FEATURES = np.random.default_rng(0).random((200, 5)).astype(np.float16)  # no clusters: the start decides


@pytest.mark.parametrize("order", ["shuffled", "reference"])
def test_the_start_of_the_k_means_depends_on_the_seed(order: str) -> None:
    numbers = NUMBERS if order == "shuffled" else NUMBERS[:2]

    def centroids(seed: int) -> np.ndarray:
        settings = KMeansSettings(order=order, passes=1, batch=1024)
        (fed,) = batches(numbers, settings, seed)
        features = np.empty_like(FEATURES[: numbers.sum()])
        features[fed] = FEATURES[: len(fed)]
        return kmeans(features, numbers, 8, settings, seed, lambda regions: None)

    first = centroids(0)
    np.testing.assert_array_equal(centroids(0), first)
    for seed in (1, 2, 3):
        assert (centroids(seed) != first).any()


def test_the_order_of_the_regions_depends_on_the_seed_and_the_pass() -> None:
    def passes(seed: int) -> list[list[int]]:
        return [part.tolist() for part in batches(NUMBERS, KMeansSettings(passes=2, batch=1024), seed)]

    assert passes(0) == passes(0)
    assert len({tuple(part) for seed in (0, 1, 2) for part in passes(seed)}) == 6


@pytest.mark.parametrize("order", ["shuffled", "reference"])
def test_the_stage_hands_its_seed_to_the_k_means(tmp_path: Path, order: str) -> None:
    generator = np.random.default_rng(0)
    images = {image: generator.integers(0, 256, (32, 32, 3)).astype(np.uint8) for image in IMAGES}
    dataset = write_dataset(tmp_path / "d.h5", random_masks(IMAGES, (32, 32), 3), 3, images=images)
    superpixels = write_superpixels(tmp_path, dataset)
    # a file of weights: random ones would give each seed other features
    torch.manual_seed(0)
    weights = tmp_path / "encoder.safetensors"
    safetensors.torch.save_file(timm.create_model(TINY["backbone"]).state_dict(), weights)

    def clustered(name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
        folder = tmp_path / name
        folder.mkdir()
        values = {"weights": str(weights), "clusters": 5, "order": order, "seed": seed}
        with Clusters(write_clusters(folder, dataset, superpixels, **values)) as clusters:
            return clusters.features(), clusters.read("centroids")

    features, first = clustered("first", 0)
    again, other = clustered("again", 0), clustered("other", 1)
    np.testing.assert_array_equal(again[1], first)
    np.testing.assert_array_equal(other[0], features)
    assert len(np.unique(features, axis=0)) > 5
    assert (other[1] != first).any()
