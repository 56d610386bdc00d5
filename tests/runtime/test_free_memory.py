"""How much memory a process can still get, and stages that say before they start that it is not enough."""

from pathlib import Path

import pytest
from worlds import TINY, random_masks, random_round, region_round, write_clusters, write_dataset, write_network
from worlds import write_superpixels as cut

from stages.commands import evaluate, extract_superpixels, pseudo_label, score, select, train
from stages.networks import batch_memory
from stages.networks.batch_memory import largest_batch
from stages.runtime import free_memory
from stages.runtime.errors import StageFailed
from stages.runtime.free_memory import require_memory
from stages.scoring.regions import bytes_to_finish
from stages.settings.evaluate import EvaluateSettings
from stages.settings.extract_superpixels import ExtractSettings
from stages.settings.pseudo_label import PseudoLabelSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings
from stages.settings.train import TrainSettings

GB = 10**9
UNLIMITED = 9223372036854771712


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A computer with 20 GB left whose files can be written: (path, text)."""

    def write(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    write("meminfo", f"MemTotal: 1 kB\nMemAvailable: {20 * GB // 1024} kB\n")
    for name, path in {"MEMINFO": "meminfo", "OWN_GROUPS": "groups", "GROUPS": "cgroup"}.items():
        monkeypatch.setattr(free_memory, name, tmp_path / path)
    return write


def group(system, folder: str, limit: object, used: int, files: int, first: bool = False) -> None:
    """A control group of version 2, or of the ``first``."""
    names = (
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_") if first else ("memory.max", "memory.current", "")
    )
    system(f"cgroup/{folder}/{names[0]}", f"{limit}\n")
    system(f"cgroup/{folder}/{names[1]}", f"{used}\n")
    stat = f"anon 5\n{names[2]}inactive_file {files}\n{names[2]}active_file {files}\n"
    system(f"cgroup/{folder}/memory.stat", stat)


class TestFreeMemory:
    def test_of_a_computer_without_groups(self, system):
        assert free_memory.free_memory() == 20 * GB // 1024 * 1024

    def test_of_a_job_of_slurm(self, system):
        """The step has no limit of its own, its job has 8 GB, of which 5 are used and 2 are files in the page cache."""
        system("groups", "0::/system.slice/job_7/step_0\n")
        group(system, "system.slice/job_7/step_0", "max", 4 * GB, 0)
        group(system, "system.slice/job_7", 8 * GB, 5 * GB, GB)
        assert free_memory.free_memory() == 5 * GB

    def test_of_a_container_that_sees_its_own_group_as_root(self, system):
        system("groups", "0::/\n")
        group(system, ".", 3 * GB, GB, 0)
        assert free_memory.free_memory() == 2 * GB

    def test_of_version_1(self, system):
        """In a container the path is that of the host, and the root is its own group."""
        system("groups", "5:cpu:/a\n4:memory:/docker/abc\n0::/\n")
        group(system, "memory", 3 * GB, GB, GB // 2, first=True)
        assert free_memory.free_memory() == 3 * GB
        group(system, "memory/docker/abc", UNLIMITED, GB, 0, first=True)
        group(system, "memory/docker", 2 * GB, GB, 0, first=True)
        assert free_memory.free_memory() == GB

    def test_a_limit_above_what_the_computer_has_left(self, system):
        system("groups", "0::/a\n")
        group(system, "a", 64 * GB, GB, 0)
        assert free_memory.free_memory() == 20 * GB // 1024 * 1024

    def test_a_group_over_its_limit(self, system):
        system("groups", "0::/a\n")
        group(system, "a", GB, 2 * GB, 0)
        assert free_memory.free_memory() == 0

    def test_where_no_system_tells(self, monkeypatch):
        for name in ("MEMINFO", "OWN_GROUPS", "GROUPS"):
            monkeypatch.setattr(free_memory, name, Path("/nowhere"))
        assert free_memory.free_memory() > GB // 4


def test_the_sentence(monkeypatch):
    monkeypatch.setattr(free_memory, "free_memory", lambda: 12 * GB)
    require_memory(12 * GB, "score")
    with pytest.raises(StageFailed) as error:
        require_memory(31 * GB, "score", "for a batch of 64 images", "Set --batch 16 or less.")
    assert str(error.value) == (
        "score needs at least 31.0 GB of memory for a batch of 64 images, but only 12.0 GB are free. "
        "Set --batch 16 or less."
    )


@pytest.mark.parametrize(("free", "remedy"), [(GB, "Set --batch 6 or less."), (100, "Use a GPU with more memory.")])
def test_the_memory_of_a_gpu(monkeypatch, free, remedy):
    """157 MB for each image of 2048x1024 with 18 classes."""
    for module in (free_memory, batch_memory):
        monkeypatch.setattr(module, "free_memory_of", {"cuda": free}.__getitem__)
    with pytest.raises(StageFailed) as error:
        batch_memory.require_batch_memory("score", 8, (1024, 2048), 3, 18, "cuda")
    told = "score needs at least 1.3 GB of GPU memory for a batch of 8 images of 2048x1024 with 18 classes, but only"
    assert str(error.value).startswith(told)
    assert str(error.value).endswith(remedy)


def test_little_memory_is_not_asked_about(monkeypatch):
    monkeypatch.setattr(free_memory, "free_memory", lambda: 0)
    require_memory(free_memory.SMALL_BYTES, "score")


def test_the_largest_batch_has_images_of_one_size():
    """Four small images side by side have fewer pixels than two large ones."""
    sizes = dict.fromkeys("abcd", (10, 10)) | dict.fromkeys("efg", (20, 20))
    assert largest_batch("abcdefg", sizes, 2) == (2, (20, 20))
    assert largest_batch("abcd", sizes, 8, 0.5) == (4, (5, 5))


NAMES = [f"i{number}" for number in range(6)]
PREDICTION = 4 * 32 * 32 * (3 + 4 * 3)  # a batch of four


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    splits = dict.fromkeys(NAMES[-2:], "test")
    dataset = write_dataset(folder / "d.h5", random_masks(NAMES, (32, 32), 3), 3, splits)
    network = {"backbone": TINY["backbone"], "head_width": 16, "low_level_width": 8}
    model = write_network(folder / "m.safetensors", dataset, **network)
    superpixels = cut(folder, dataset)
    ledger = region_round(folder, dataset, 0, superpixels)
    scores = score.run(dataset, folder / "s.h5", ScoreSettings(measure="random"))
    return {
        "dataset": dataset,
        "model": model,
        "superpixels": superpixels,
        "ledger": ledger,
        "region scores": folder / "scores0.h5",
        "pixel scores": scores,
        "pixels": random_round(folder, dataset, 1),
    }


def run_score(world, output, **values):
    score.run(world["dataset"], output, ScoreSettings(device="cpu", **values), world["model"])


def run_score_of_regions(world, output, **values):
    settings = ScoreSettings(device="cpu", unit="region", measure="bvsb", **values)
    score.run(world["dataset"], output, settings, world["model"], world["superpixels"])


def run_train(world, output):
    train.run(world["dataset"], world["pixels"], output.with_suffix(".safetensors"), TrainSettings(**TINY, epochs=1))


def run_evaluate(world, output):
    evaluate.run(world["dataset"], [world["model"]], output, EvaluateSettings(device="cpu", checkpoint="last"))


def run_pseudo_label(world, output):
    pseudo_label.run(world["dataset"], world["ledger"], world["model"], output, PseudoLabelSettings(device="cpu"))


def run_merge(world, output):
    settings = ExtractSettings(method="adaptive", device="cpu", workers=1)
    extract_superpixels.run(world["dataset"], output, settings, world["superpixels"], world["model"])


def run_clusters(world, output):
    write_clusters(output.parent, world["dataset"], world["superpixels"])


def run_select_regions(world, output):
    settings, scores = SelectSettings(rule="top", budget=1), world["region scores"]
    select.run(world["dataset"], scores, output, settings, superpixels=world["superpixels"])


def run_select_pixels(world, output):
    select.run(world["dataset"], world["pixel scores"], output, SelectSettings(scope="dataset"))


BATCH = "for a batch of 4 images of 32x32 with 3 classes"


@pytest.mark.parametrize(
    ("run", "needed", "sentence"),
    [
        (run_score, PREDICTION, f"score needs at least 0.0 GB of memory {BATCH}, .*Set --batch 3 or less"),
        (run_score_of_regions, PREDICTION, f"score needs .* {BATCH}"),
        (run_evaluate, PREDICTION // 2, "evaluate needs .* for a batch of 2 images"),
        (run_pseudo_label, PREDICTION // 2, "pseudo-label needs .* for a batch of 2 images"),
        (run_merge, PREDICTION, f"extract-superpixels needs .* {BATCH}"),
        (run_train, 2 * 32 * 32 * (3 + 2 * 4 * 3), "train needs .* batch of 2 images .*Use smaller images or crops"),
        (run_clusters, 64 * 2 * 16, "cluster-regions needs .* for [0-9]+ features of each of 64 regions"),
        (run_select_regions, 64 * 32, "select needs .* for 64 regions"),
        (run_select_pixels, 24 * 4 * 32 * 32, "select needs .* for 4096 pixels of 4 images together.*--scope image"),
    ],
)
def test_stages_refuse_before_they_start(world, tmp_path, monkeypatch, run, needed, sentence):
    """With a byte less than they are certain to need; with that much, what else they need is not predicted."""
    monkeypatch.setattr(free_memory, "SMALL_BYTES", 0)
    monkeypatch.setattr(free_memory, "free_memory", lambda: needed - 1)
    with pytest.raises(StageFailed, match=sentence):
        run(world, tmp_path / "o.h5")
    assert not list(tmp_path.glob("o.*"))


def test_tables_of_all_regions(world, tmp_path, monkeypatch):
    """16 features of 64 regions in 16 bits, twice while they are joined, beside their sizes."""
    assert bytes_to_finish(64, 0, by_network=True, whole=True) == 64 * 46
    assert bytes_to_finish(64, 0, by_network=True, whole=False) == 64 * 29
    assert bytes_to_finish(64, 0, by_network=False, whole=True) == 64 * 8
    monkeypatch.setattr(free_memory, "SMALL_BYTES", 0)
    monkeypatch.setattr(free_memory, "free_memory", lambda: 64 * (4 + 64) - 1)
    with pytest.raises(StageFailed, match=r"score needs .* for 64 regions"):
        run_score_of_regions(world, tmp_path / "o.h5", keep_features=True)


def test_batches_that_fit_are_not_refused(world, tmp_path, monkeypatch):
    monkeypatch.setattr(free_memory, "SMALL_BYTES", 0)
    monkeypatch.setattr(free_memory, "free_memory", lambda: PREDICTION)
    run_score(world, tmp_path / "o.h5")
    assert (tmp_path / "o.h5").is_file()
