"""Training on a dataset that is larger than memory: images from the file or their originals, cached or not."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages.commands import annotate_simulate, score, select
from stages.runtime.devices import choose_device
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings
from stages.settings.train import TrainSettings
from stages.training.samples.loading import load_batches
from stages.training.samples.maps import TrainingSamples
from tests.bench.limited import inside, memory_group
from tests.bench.material import many_files, quiet
from tests.bench.measure import ALSEG, SEED, Job, Measured, Row, plain, seconds
from tests.bench.memory import kilobytes, megabytes, peak
from tests.bench.training import FLIP_ONLY, TimedLabels, new_training, rates, run_in_turns

IMAGES, LOADED, QUICK_IMAGES = 1_600, 800, 32  # in all; of these, in the epochs that are timed
HEIGHT, WIDTH, CLASSES = 480, 640, 11
LIMIT = 1_300_000_000  # bytes, of which torch and the network take much
SETTINGS: dict[str, Any] = FLIP_ONLY | {
    "seed": SEED,
    "architecture": "light",
    "backbone": "mobilenetv3_small_050",
    "head_width": 32,
    "weights": "none",
    "batch": 16,
    "crop": (128, 128),
}


def rows(job: Job) -> list[Row]:
    count = QUICK_IMAGES if job.quick else IMAGES
    found, stored = [], None
    for way in ("stored", "in place"):
        root = job.folder / f"loading-{way.replace(' ', '-')}"
        dataset = root / "dataset.h5"
        options = [] if way == "stored" else ["--in-place"]
        peak(
            "prepare",
            str(many_files(root, count, HEIGHT, WIDTH, CLASSES)),
            "--root",
            str(root),
            "-o",
            str(dataset),
            *options,
        )
        ledger = labels(dataset, QUICK_IMAGES if job.quick else LOADED)
        files = [dataset] if way == "stored" else sorted((root / "images").iterdir())
        found += loading_rows(dataset, ledger, files, way, job)
        if way == "stored":
            stored = dataset
    assert stored is not None
    return [*found, limited_row(stored, labels(stored, count), job)]


def labels(dataset: Path, count: int) -> Path:
    """A ledger of a pixel in each of ``count`` images, scored on a coarse grid: which is of no interest here."""
    scores, queries, ledger = (dataset.with_name(f"{name}-{count}.h5") for name in ("scores", "queries", "annotations"))
    drawn = {"seed": SEED, "measure": "random", "grid_scale": 0.05, "most_images": count}
    with quiet():
        score.run(dataset, scores, ScoreSettings.load(drawn))
        select.run(dataset, scores, queries, SelectSettings.load({"seed": SEED, "rule": "uniform", "budget": 1}))
        annotate_simulate.run(dataset, queries, ledger, AnnotateSettings.load({"seed": SEED}))
    return ledger


def loading_rows(dataset: Path, ledger: Path, files: list[Path], way: str, job: Job) -> list[Row]:
    """Images per second of loading alone and of training, with the files in the page cache and dropped from it."""
    count, repeat = (QUICK_IMAGES, 1) if job.quick else (LOADED, 2)
    settings = TrainSettings.load(SETTINGS | {"epochs": repeat + 1})
    training = new_training(dataset, ledger, settings, choose_device("cpu"))
    learner = training.learner
    assert isinstance(learner, TimedLabels)
    from_files(learner.samples)
    batches = [[(int(index), 0) for index in batch] for batch in learner.epoch(0)]

    def load() -> None:
        for _ in load_batches(learner.samples, batches, 0, pin=False):
            pass

    load()
    found = []
    for cache, before in {"cached": lambda: None, "not cached": lambda: drop(files)}.items():
        alone = rates(count, [timed(load, before) for _ in range(repeat)])
        training = new_training(dataset, ledger, settings, choose_device("cpu"))
        assert isinstance(training.learner, TimedLabels)
        from_files(training.learner.samples)
        before()
        epochs, _, waiting = run_in_turns(training, before, job.folder)
        training.checkpoints.remove()
        trained = f"{rates(count, epochs).text('images/s')}, {plain(100 * waiting, 2)} % of it waiting for data"
        what = f"{count} images of {WIDTH}x{HEIGHT}, {way}, {cache}"
        found += [
            Row(f"loading crops of {what}", alone.text("images/s")),
            Row(f"training on them, {way}, {cache}", trained),
        ]
    return found


def timed(function: Callable[[], object], before: Callable[[], object]) -> float:
    """Seconds of ``function`` alone."""
    before()
    return seconds(function)


def from_files(samples: TrainingSamples) -> None:
    """Keeps no image in memory, as if there were no room."""
    samples.keep_images = lambda processes: None  # type: ignore[method-assign]


def drop(files: list[Path]) -> None:
    """Takes ``files`` out of the page cache."""
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def limited_row(dataset: Path, ledger: Path, job: Job) -> Row:
    """The command `train` in a control group that has less memory than the images."""
    count = QUICK_IMAGES if job.quick else IMAGES
    size, model = dataset.stat().st_size, dataset.with_name("model.safetensors")
    what = f"`alseg train`, an epoch of {count} images ({size / 1e6:.0f} MB) in a job of {LIMIT / 1e6:.0f} MB"
    command = [*ALSEG, "train", str(dataset), str(ledger), "-o", str(model), "--epochs", "1", "--device", "cpu"]
    for name, value in SETTINGS.items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        command += [f"--{name.replace('_', '-')}", text]
    with memory_group(LIMIT) as group:
        if group is None:
            return Row(what, "not measured (no control group can be made here)")
        drop([dataset])
        began = time.perf_counter()
        memory = kilobytes(*inside(group, command))
        took = time.perf_counter() - began
    return Row(what, f"{plain(took)} s, {megabytes(memory)}, {Measured.of([count / took]).median:.0f} images/s in all")
