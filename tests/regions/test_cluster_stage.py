"""The stage cluster-regions as a function: what it stores, features used again, regions of any kind."""

import numpy as np
import pytest
from worlds import random_masks, write_clusters, write_dataset, write_superpixels

from stages.artifacts.clusters import Clusters
from stages.artifacts.superpixels import Superpixels
from stages.artifacts.verify import verify_one
from stages.commands import cluster_regions
from stages.runtime.errors import BadInput
from stages.settings.cluster_regions import ClusterSettings

NAMES = ["a", "b", "c", "d"]
SMALL = {"encoder": "mobilenetv3_small_050", "weights": "none", "clusters": 3, "device": "cpu", "workers": 1}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    draw = np.random.default_rng(0)
    images = {name: draw.integers(0, 256, (32, 40, 3)).astype(np.uint8) for name in NAMES}
    masks = random_masks(NAMES, (32, 40), 3)
    masks["b"][:] = 255
    dataset = write_dataset(folder / "d.h5", masks, 3, images=images)
    regions = write_superpixels(folder, dataset)
    return folder, dataset, regions, write_clusters(folder, dataset, regions)


def run(world, output, features=None, **values):
    _, dataset, regions, _ = world
    settings = ClusterSettings.load(values, offered=SMALL)
    return Clusters(cluster_regions.run(dataset, regions, output, settings, features))


def test_what_the_file_holds(world):
    _, _, superpixels, path = world
    found, regions = Clusters(path), Superpixels(superpixels)
    assert found.attributes == {
        "method": "kmeans",
        "clusters": 3,
        "encoder": "mobilenetv3_small_050",
        "split": "train",
        "oracle_privilege": "none",
    }
    assert {name: dataset.dtype.str for name, dataset in found.arrays()} == {
        "centroids": "<f4", "features": "<f2", "images/height": "<i4", "images/id": "|S1", "images/width": "<i4",
        "regions/cluster": "|u1",
    }  # fmt: skip
    assert found.read("centroids").shape == (3, 24)
    assert found.features().shape == (regions.count, 24)
    counts = found.header.counts
    assert counts["regions"] == sum(counts["regions_per_cluster"]) == regions.count == 80
    assert sum(counts["pixels_per_cluster"]) == 4 * 32 * 40
    assert counts["encoder_weights"] == "none"
    assert set(found.header.inputs) == {"dataset", "superpixels"}
    assert verify_one(path) == ([], [])


def test_features_are_used_again(world, tmp_path):
    _, _, _, path = world
    again = run(world, tmp_path / "again.h5", path)
    assert again.digest == Clusters(path).digest
    assert set(again.header.inputs) == {"dataset", "superpixels", "features"}
    other = run(world, tmp_path / "other.h5", tmp_path / "again.h5", clusters=5, keep_features=False)
    assert other.number == 5
    assert not other.has_features
    assert other.digest == run(world, tmp_path / "alone.h5", clusters=5, keep_features=False).digest
    assert not list(tmp_path.glob("*.parts"))


def test_shards_and_workers_change_nothing(world, tmp_path, monkeypatch):
    monkeypatch.setattr("stages.commands.cluster_regions.SHARD_IMAGES", 3)
    assert run(world, tmp_path / "x.h5", workers=2).digest == Clusters(world[3]).digest


def test_random_clusters_have_no_features(world, tmp_path):
    found = run(world, tmp_path / "x.h5", method="random", clusters=2)
    assert found.attributes["encoder"] == "none"
    assert {name for name, _ in found.arrays("regions")} == {"cluster"}
    assert "centroids" not in found
    assert not found.has_features
    assert min(found.header.counts["regions_per_cluster"]) > 20


def test_images_without_regions_and_the_privilege_of_oracle_regions(world):
    folder, dataset, _, _ = world
    oracle = write_superpixels(folder, dataset, method="oracle")
    found, regions = Clusters(write_clusters(folder, dataset, oracle)), Superpixels(oracle)
    assert regions.number("b") == 0
    assert len(found.of_regions) == regions.count > 100
    assert found.attributes["oracle_privilege"] == "oracle regions"


def test_weights_are_recognised_by_their_content(world, tmp_path):
    import safetensors.torch
    import timm
    import torch

    def write(name, seed):
        torch.manual_seed(seed)
        safetensors.torch.save_file(timm.create_model(SMALL["encoder"]).state_dict(), tmp_path / name)
        return str(tmp_path / name)

    first = run(world, tmp_path / "first.h5", weights=write("w.safetensors", 0))
    assert set(first.header.inputs) == {"dataset", "superpixels", "weights"}
    assert first.header.counts["encoder_weights"] == "w.safetensors"
    copy = {"weights": write("copy.safetensors", 0), "seed": 1}  # the seed is nothing to weights from a file
    same = run(world, tmp_path / "same.h5", tmp_path / "first.h5", **copy)
    assert same.header.counts["encoder_weights"] == "w.safetensors"
    told = (
        r"first\.h5 contains other features: weights .*w\.safetensors instead of none\. Use the same settings, or "
        r"omit --features\.$"
    )
    with pytest.raises(BadInput, match=told):
        run(world, tmp_path / "x.h5", tmp_path / "first.h5")
    write("w.safetensors", 1)
    told = r"different content of the weights .*w\.safetensors\. Use the same settings, or omit --features\.$"
    with pytest.raises(BadInput, match=told):
        run(world, tmp_path / "x.h5", tmp_path / "first.h5", weights=str(tmp_path / "w.safetensors"))


@pytest.mark.parametrize(
    "values, says",
    [
        (
            {"encoder": "vgg16"},
            r"mobilenetv3_small_050 instead of vgg16\. Use the same settings, or omit --features\.$",
        ),
        ({"patch": 8}, r"patch 16 instead of 8\. Use the same settings, or omit --features\.$"),
        ({"weights": "imagenet"}, r"weights none instead of imagenet\. Use the same settings, or omit --features\.$"),
        ({"seed": 3}, r"random weights of seed 0 instead of 3\. Use the same settings, or omit --features\.$"),
        ({"method": "random"}, r"^Method random uses no features\. Omit --features\.$"),
    ],
)
def test_other_features_are_refused(world, tmp_path, values, says):
    with pytest.raises(BadInput, match=says):
        run(world, tmp_path / "x.h5", world[3], **values)


def test_files_without_features_or_of_other_regions_are_refused(world, tmp_path):
    without = run(world, tmp_path / "without.h5", keep_features=False)
    with pytest.raises(BadInput, match=r"contains no features\. Pass clusters that were written with --keep-features"):
        run(world, tmp_path / "x.h5", without.path)
    _, dataset, _, _ = world
    larger = write_superpixels(tmp_path, dataset, region_pixels=100)
    other = write_clusters(tmp_path, dataset, larger)
    with pytest.raises(
        BadInput, match=r"was made from another superpixels .*\. Pass the one it was made from, or rebuild it\.$"
    ):
        run(world, tmp_path / "x.h5", other)


def test_torchrun_is_refused(world, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    told = r"^cluster-regions starts its own processes \(--workers\)\. Run it without torchrun\.$"
    with pytest.raises(BadInput, match=told):
        run(world, tmp_path / "x.h5")


def test_settings_of_k_means_do_not_apply_to_random_clusters():
    with pytest.raises(BadInput) as refused:
        ClusterSettings.load({"method": "random", "encoder": "vgg16", "passes": 2})
    assert [fault.partition(";")[0] for fault in refused.value.faults] == [
        "encoder does not apply to method random",
        "passes does not apply to method random",
    ]
    assert all(fault.endswith("it is for method kmeans.") for fault in refused.value.faults)


def test_settings_that_do_not_apply_rebuild_nothing(world, tmp_path, capsys):
    """A file of older code records all settings, also those that its method does not use."""
    found = run(world, tmp_path / "x.h5", method="random")
    capsys.readouterr()
    run(world, tmp_path / "x.h5", method="random", clusters=3)
    assert "is up to date" in capsys.readouterr().out
    assert found.header.settings == {"method": "random", "clusters": 3}
