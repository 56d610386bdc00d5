"""The acceptance checks 3 and 4 of the MADBAL specification: patches, features and clusters of regions."""

import numpy as np
import pytest
from worlds import random_masks, write_clusters, write_dataset, write_superpixels

from stages.artifacts.clusters import Clusters
from stages.artifacts.dataset import Dataset
from stages.artifacts.superpixels import BOX, Superpixels
from stages.regions.features import load_encoder
from stages.regions.graph import region_table
from stages.regions.patches import cut_patches
from stages.runtime.randomness import stream
from stages.settings.cluster_regions import KMeansSettings

NAMES = [f"i{number}" for number in range(5)]  # an odd number: the reference order leaves one out
SIZE = (64, 96)


def blocks(name: str) -> np.ndarray:
    """Blocks of colour with noise: (H,W,3) u8."""
    draw = stream(0, "blocks", name)
    coarse = draw.integers(0, 256, (SIZE[0] // 16, SIZE[1] // 16, 3)).repeat(16, 0).repeat(16, 1)
    return (coarse + draw.integers(-9, 10, (*SIZE, 3))).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A dataset and its SEEDS regions, on the images' grid and on one half as fine."""
    folder = tmp_path_factory.mktemp("world")
    images = {name: blocks(name) for name in NAMES}
    dataset = write_dataset(folder / "d.h5", random_masks(NAMES, SIZE, 3), 3, images=images)
    coarse = folder / "coarse"
    coarse.mkdir()
    seeds = {"method": "seeds", "levels": 2}
    return {
        "folder": folder,
        "dataset": dataset,
        "fine": write_superpixels(folder, dataset, **seeds),
        "coarse": write_superpixels(coarse, dataset, grid_scale=0.5, **seeds),
    }


def test_3_cells_outside_take_the_mean_before_resizing():
    image = np.full((4, 5, 3), 200, dtype=np.uint8)
    image[1:3, 2:4] = np.array([[1, 2], [3, 99]])[..., None]
    labels = np.full((4, 5), 1, dtype=np.int32)
    labels[1:3, 2:4] = [[0, 0], [0, 1]]
    patch = cut_patches(image, labels, region_table(labels, 2), 2)[0]
    np.testing.assert_allclose(patch * 255, np.broadcast_to([[1, 2], [3, 2]], (3, 2, 2)), rtol=1e-6)


def test_3_a_region_that_fills_a_16x16_box_is_the_crop():
    image = blocks("crop")
    labels = np.full(SIZE, -1, dtype=np.int32)
    labels[5:21, 7:23] = 0
    expected = image[5:21, 7:23].transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(cut_patches(image, labels, region_table(labels, 1), 16)[0], expected)


def test_3_features_of_vgg16_are_512_and_not_negative(world):
    with Dataset(world["dataset"]) as data, Superpixels(world["fine"]) as regions:
        boxes = {name: regions.read(f"regions/{name}", regions.rows["i0"]) for name in BOX}
        patches = cut_patches(data.image("i0"), regions.labels("i0"), boxes, 16)
    encoder = load_encoder(KMeansSettings(weights="none", device="cpu"), 0)
    features = encoder.features(patches)
    assert features.shape == (len(boxes["y0"]), 512)
    assert (features >= 0).all()
    assert (features > 0).any()


@pytest.mark.parametrize("grid", ["fine", "coarse"])
@pytest.mark.parametrize("order", ["shuffled", "reference"])
def test_4_every_region_is_in_its_nearest_of_nine_clusters_and_again_the_same(world, grid, order, tmp_path):
    found = Clusters(write_clusters(tmp_path, world["dataset"], world[grid], clusters=9, order=order))
    with Superpixels(world[grid]) as regions:
        assert found.ids == regions.ids == NAMES
        assert found.sizes == regions.sizes
        for image in NAMES:
            valid = np.unique(regions.labels(image))
            assert len(found.of_regions[regions.rows[image]]) == len(valid[valid >= 0])
        assert len(found.of_regions) == regions.count
    assert found.number == 9
    assert found.of_regions.dtype == np.uint8
    assert found.of_regions.max() <= 8
    assert len(np.unique(found.of_regions)) > 4
    features, centroids = found.features().astype(np.float64), found.read("centroids").astype(np.float64)
    brute = ((features[:, None] - centroids[None]) ** 2).sum(-1)
    np.testing.assert_array_equal(found.of_regions, brute.argmin(1))
    assert found.header.counts["inertia"] == pytest.approx(brute.min(1).mean(), rel=1e-5)
    (tmp_path / "again").mkdir()
    again = Clusters(write_clusters(tmp_path / "again", world["dataset"], world[grid], clusters=9, order=order))
    assert again.digest == found.digest
