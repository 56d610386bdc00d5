"""`alseg cluster-regions` through the command line: up to date or not, kills and stops, refusals."""

import random
import shutil
import signal
import time

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from commands_support import Step, assert_same, assert_undisturbed, digest, listing, remove, rewrite, write_scenes
from damage_support import put, refuse
from programs import at_work, finish, start, wait_until, workers_at_work

from stages.artifacts.clusters import Clusters

pytestmark = pytest.mark.slow

ENCODER = "mobilenetv3_small_050"
SMALL = ("--encoder", ENCODER, "--weights", "none", "--clusters", "4", "--workers", "1")
COMMAND = ["cluster-regions", "d.h5", "r.h5", *SMALL]
RANDOM = ["cluster-regions", "d.h5", "r.h5", "--clusters", "4", "--method", "random"]
CHAIN = {
    "prepare": Step(("prepare", "tiny.toml", "-o", "d.h5"), "d.h5"),
    "extract": Step(("extract-superpixels", "d.h5", "--count", "24", "--workers", "1", "-o", "r.h5"), "r.h5"),
    "cluster": Step((*COMMAND, "-o", "c.h5"), "c.h5"),
    "again": Step((*COMMAND, "--clusters", "2", "--features", "c.h5", "-o", "f.h5"), "f.h5"),
}
CLUSTER, AGAIN = CHAIN["cluster"], CHAIN["again"]
INPUT = "INPUT"
INPUTS = {
    "dataset": (["cluster-regions", INPUT, "r.h5", *SMALL, "-o", "x.h5"], "d.h5"),
    "superpixels": (["cluster-regions", "d.h5", INPUT, *SMALL, "-o", "x.h5"], "r.h5"),
    "features": ([*COMMAND, "--features", INPUT, "-o", "x.h5"], "c.h5"),
}
CHANGES = 200  # of files and folders: more than the stage makes here


@pytest.fixture(scope="session")
def cluster_world(tmp_path_factory, preloaded):
    """Regions of six images, their clusters, and clusters of the same features; never changed by a test."""
    folder = tmp_path_factory.mktemp("clusters") / "world"
    folder.mkdir()
    write_scenes(folder / "tiny.toml")
    for step in CHAIN.values():
        preloaded.run(*step.words, cwd=folder).expect(0, out="wrote")
    return folder


@pytest.fixture
def cluster_place(cluster_world, tmp_path):
    """The test's own copy of it."""
    folder = tmp_path / "place"
    shutil.copytree(cluster_world, folder)
    return folder


@pytest.fixture
def refused(cluster_place, preloaded):
    """``refused(words..., says=text)``: exit 2, one sentence with the text, nothing changed."""

    def refused(*words, says):
        done = refuse(preloaded, cluster_place, *words, says=says)
        assert len(done.err.splitlines()) == 1
        return done

    return refused


def parts(place):
    return {name: told for name, told in listing(place / "c.h5.parts").items() if name.endswith(".h5")}


def write_weights(path, seed):
    torch.manual_seed(seed)
    safetensors.torch.save_file(timm.create_model(ENCODER).state_dict(), path)


def test_two_workers_give_the_same(cluster_place, cluster_world, preloaded):
    remove(cluster_place, CLUSTER)
    done = preloaded.run(*CLUSTER.words, "--workers", "2", cwd=cluster_place)
    done.expect(0, out="regions of 6 images in 4 clusters of ")
    assert "mean squared distance" in done.out
    assert_undisturbed(cluster_place, cluster_world, CLUSTER)
    assert len(np.unique(Clusters(cluster_place / "c.h5").of_regions)) > 1


def test_up_to_date_until_a_setting_changes_which_is_named(cluster_place, preloaded):
    before = listing(cluster_place)
    for options in ([], ["--workers", "3", "--device", "cpu"]):
        preloaded.run(*CLUSTER.words, *options, cwd=cluster_place).expect(0, out="c.h5 is up to date\n")
    preloaded.run(*AGAIN.words, cwd=cluster_place).expect(0, out="f.h5 is up to date\n")
    assert listing(cluster_place) == before
    for options, says in (
        (["--passes", "2"], "setting passes 6 is now 2"),
        (["--order", "reference"], "setting order shuffled is now reference; setting passes 2 is now 6"),
    ):
        preloaded.run(*CLUSTER.words, *options, cwd=cluster_place).expect(0, out=f"rebuilding c.h5: {says}")
    says = "seed 0 is now 1; setting method kmeans is now random"
    preloaded.run(*RANDOM, "--seed", "1", "-o", "c.h5", cwd=cluster_place).expect(0, out=f"rebuilding c.h5: {says}")
    preloaded.run(*AGAIN.words, cwd=cluster_place).expect(2, err="c.h5 contains no features. Pass clusters that were")


def test_other_regions_and_other_features_are_named_and_rebuild(cluster_place, preloaded):
    words = CHAIN["extract"].words
    preloaded.run(*words, "--count", "12", cwd=cluster_place).expect(0, out="rebuilding r.h5")
    preloaded.run(*AGAIN.words, cwd=cluster_place).expect(2, err="c.h5 was made from another superpixels (r.h5, digest")
    preloaded.run("verify", "c.h5", cwd=cluster_place).expect(2, err="its superpixels r.h5 changed since")
    done = preloaded.run(*CLUSTER.words, cwd=cluster_place)
    done.expect(0, out="rebuilding c.h5: input superpixels changed (r.h5)\n")
    done = preloaded.run(*AGAIN.words, cwd=cluster_place)
    done.expect(0, out="rebuilding f.h5: input features changed (c.h5); input superpixels changed (r.h5)\n")
    preloaded.run("verify", "c.h5", "f.h5", cwd=cluster_place).expect(0, out="undamaged and up to date")


def test_a_changed_file_of_weights_rebuilds(cluster_place, preloaded):
    write_weights(cluster_place / "w.safetensors", 0)
    words = [*COMMAND, "--weights", "w.safetensors", "-o", "x.h5"]
    preloaded.run(*words, cwd=cluster_place).expect(0, out="wrote x.h5")
    preloaded.run(*words, cwd=cluster_place).expect(0, out="up to date")
    write_weights(cluster_place / "w.safetensors", 1)
    preloaded.run("verify", "x.h5", cwd=cluster_place).expect(2, err="its weights w.safetensors changed since")
    preloaded.run(*words, cwd=cluster_place).expect(0, out="rebuilding x.h5: input weights changed (w.safetensors)")


def test_clusters_do_not_depend_on_the_order_of_images(cluster_place, cluster_world, preloaded):
    order = np.random.default_rng(4).permutation(10)
    rewrite(cluster_place / "d.h5", [f"index/{name}" for name in ("id", "split", "height", "width")], order)
    preloaded.run(*CLUSTER.words, "--force", cwd=cluster_place).expect(0, out="wrote")
    assert_same(cluster_place / "c.h5", cluster_world / "c.h5")


def test_inspect_tells_and_draws(cluster_place, preloaded):
    preloaded.run("inspect", "c.h5", cwd=cluster_place).expect(0, out="share of regions")
    for words in ([], ["--image", "train_00001"], ["--dataset", "d.h5"]):
        preloaded.run("inspect", "c.h5", *words, "--png", "p.png", cwd=cluster_place).expect(0, out="wrote p.png")
    before = (cluster_place / "p.png").read_bytes()
    done = preloaded.run("inspect", "c.h5", "--image", "val_00000", "--png", "p.png", cwd=cluster_place)
    done.expect(2, err="No data for image 'val_00000'")
    assert (cluster_place / "p.png").read_bytes() == before


# --- kills and stops --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [pytest.param(3, marks=pytest.mark.slow), 11])
def test_a_rerun_after_kills_at_changes_on_disk_gives_the_same(step, cluster_place, cluster_world, preloaded):
    """Run n dies at a later such change than the one before, on top of what that left, until one gets through."""
    remove(cluster_place, CLUSTER)
    kept: dict = {}
    for point in range(5, CHANGES, step):
        done = preloaded.run(*CLUSTER.words, cwd=cluster_place, signal_at=(point, signal.SIGKILL))
        if done.code == 0:
            break
        assert done.code == -signal.SIGKILL, done
        if (cluster_place / "c.h5").exists():  # killed while it cleared up
            assert_same(cluster_place / "c.h5", cluster_world / "c.h5")
            kept = {}
        found = parts(cluster_place)
        assert kept.items() <= found.items(), "finished shards are not built again"
        kept = found
    assert point > 5
    preloaded.run(*CLUSTER.words, cwd=cluster_place).expect(0, out="up to date")
    assert_undisturbed(cluster_place, cluster_world, CLUSTER)


def test_a_rerun_with_given_features_after_kills_gives_the_same(cluster_place, cluster_world, preloaded):
    remove(cluster_place, AGAIN)
    for point in range(3, CHANGES, 3):
        done = preloaded.run(*AGAIN.words, cwd=cluster_place, signal_at=(point, signal.SIGKILL))
        if done.code == 0:
            break
        assert done.code == -signal.SIGKILL, done
    assert point > 3
    preloaded.run(*AGAIN.words, cwd=cluster_place).expect(0, out="up to date")
    assert_undisturbed(cluster_place, cluster_world, AGAIN)


def test_sigterm_saves_and_the_same_command_goes_on(cluster_place, cluster_world, preloaded):
    remove(cluster_place, CLUSTER)
    saved: dict = {}
    for number in range(2):
        done = preloaded.run(*CLUSTER.words, cwd=cluster_place, signal_at=(6, signal.SIGTERM))
        done.expect(75, err=f"stopped after {2 * number + 2} of 6 images; run the same command to continue")
        found = parts(cluster_place)
        assert len(found) == number + 1
        assert saved.items() <= found.items(), "finished shards are not built again"
        saved = found
    preloaded.run(*CLUSTER.words, cwd=cluster_place).expect(0, out="wrote")
    assert_undisturbed(cluster_place, cluster_world, CLUSTER)


def test_after_kills_of_real_processes_no_worker_is_left(cluster_place, cluster_world, preloaded):
    remove(cluster_place, CLUSTER)
    draw = random.Random("kills of workers")
    for _ in range(2):
        process = start(*CLUSTER.words, "--workers", "2", cwd=cluster_place)
        wait_until(lambda: workers_at_work(cluster_place) or process.poll() is not None, "workers")  # noqa: B023
        time.sleep(draw.uniform(0, 0.5))
        process.kill()
        assert finish(process).code in (0, -signal.SIGKILL)
        wait_until(lambda: not at_work(cluster_place), "the end of the workers")
    preloaded.run(*CLUSTER.words, cwd=cluster_place).expect(0)
    assert_undisturbed(cluster_place, cluster_world, CLUSTER)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command, right", INPUTS.values(), ids=INPUTS)
def test_a_file_that_is_not_the_right_one(command, right, cluster_place, refused):
    content = (cluster_place / right).read_bytes()
    (cluster_place / "cut").write_bytes(content[: len(content) // 2])
    (cluster_place / "text").write_text("no artifact")
    for name in {"d.h5", "r.h5", "c.h5", "cut", "text", "missing"} - {right}:
        refused(*put(command, name), says=name)


@pytest.mark.parametrize(
    "words, says",
    [
        (
            ["--weights", "missing.safetensors"],
            "'missing.safetensors' cannot be read: No such file or directory. Pass a file with --weights, or",
        ),
        (
            ["--weights", "tiny.toml"],
            "'tiny.toml' were not loaded: the file is damaged or contains more than plain tensors. Pass a file with",
        ),
        (["--encoder", "mobilenet_v3"], "Unknown timm backbone 'mobilenet_v3'. Did you mean"),
        (["--encoder", "vit_tiny_patch16_224"], "Choose a convolutional --encoder"),
        (
            ["--clusters", "200"],
            "--clusters 200 exceeds the number of regions (96). Lower it, or cut the images into more regions.",
        ),
        (["--batch", "3"], "A batch of 3 regions cannot start 4 clusters. Raise --batch to 4."),
        (["--clusters", "60", "--order", "reference"], "Set --order shuffled, or lower --clusters."),
        (["--clusters", "257"], "clusters"),
        (["--patch", "1"], "patch"),
        (["--device", "cuda"], "No CUDA device is available. Use --device auto or --device cpu."),
        (["--features", "c.h5", "--encoder", "vgg16"], f"other features: encoder {ENCODER} instead of vgg16. Use the"),
        (["--features", "c.h5", "--patch", "32"], "other features: patch 16 instead of 32. Use the same settings"),
        (
            ["--features", "c.h5", "--seed", "1"],
            "random weights of seed 0 instead of 1. Use the same settings, or omit --features.",
        ),
        (["--features", "c.h5", "-o", "c.h5"], "c.h5 is the features input of this stage. Choose another output."),
        (["-o", "r.h5"], "r.h5 is the superpixels input of this stage. Choose another output."),
    ],
)
def test_what_does_not_go_together(words, says, refused):
    refused(*COMMAND, "-o", "x.h5", *words, says=says)


def test_random_clusters_take_neither_features_nor_settings_of_k_means(refused):
    refused(*RANDOM, "--features", "c.h5", "-o", "x.h5", says="Method random uses no features. Omit --features.")
    says = "passes does not apply to method random; it is for method kmeans."
    refused(*RANDOM, "--passes", "2", "-o", "x.h5", says=says)


def test_regions_of_another_dataset(cluster_place, preloaded, refused):
    preloaded.run("prepare", "tiny.toml", "--seed", "1", "-o", "other.h5", cwd=cluster_place).expect(0)
    refused("cluster-regions", "other.h5", "r.h5", *SMALL, "-o", "x.h5", says="r.h5 was made from another dataset")


def test_a_damaged_output_is_built_again(cluster_place, cluster_world, preloaded):
    (cluster_place / "c.h5").write_bytes((cluster_place / "c.h5").read_bytes()[:-100])
    done = preloaded.run(*CLUSTER.words, cwd=cluster_place)
    done.expect(0, out="rebuilding c.h5: the existing file is damaged")
    assert digest(cluster_place / "c.h5") == digest(cluster_world / "c.h5")
