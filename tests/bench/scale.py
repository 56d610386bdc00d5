"""Tens of thousands of images, prepared, scores of tens of millions of regions, and the choice among many more."""

import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from stages.artifacts.images import image_folder
from tests.bench.material import many_files
from tests.bench.measure import ALSEG, Job, Row, measure, plain
from tests.bench.memory import kilobytes, megabytes, peak
from tests.bench.regions import REGIONS, write_pool
from tests.worlds import write_network

HEIGHT, WIDTH = 480, 640
IN_PLACE, QUICK = (2_000, 20_000), (16, 32)  # images; the first number shows how memory grows
STORED, FILE_GB = 20_000, 5
CLASSES = 19
LIGHT = {"architecture": "light", "head_width": 16}
SCORED_IMAGES, SQUARES = 1_250, 19_200  # 24 million regions of 4x4 pixels
REGION_IMAGES = 12_208  # 100 million regions
NEEDED = 8 << 30  # bytes that must be free to write and choose among them
BUDGET = 100_000


def rows(job: Job) -> list[Row]:
    prepared = [prepare_row(job.folder, number, in_place=True)[0] for number in (QUICK if job.quick else IN_PLACE)]
    row, dataset = prepare_row(job.folder, QUICK[1] if job.quick else STORED, in_place=False, file_gb=FILE_GB)
    shutil.rmtree(dataset.parent)
    return [*prepared, row, *scored_rows(job), *region_rows(job)]


def prepare_row(folder: Path, number: int, in_place: bool, file_gb: float | None = None) -> tuple[Row, Path]:
    """Time, memory and bytes of `prepare`, and the dataset."""
    root = folder / f"many-{number}-{'in-place' if in_place else 'stored'}"
    description, dataset = many_files(root, number, HEIGHT, WIDTH, CLASSES), root / "dataset.h5"
    options = ["--in-place"] if in_place else []
    if file_gb is not None:
        options += ["--file-gb", str(file_gb)]
    memory, took = timed(partial(peak, "prepare", str(description), "--root", str(root), "-o", str(dataset), *options))
    what = f"`{' '.join(['alseg prepare', *options])}`, {number} JPEG images of {WIDTH}x{HEIGHT}"
    rate = f"{plain(took)} s, {plain(number / took)} images/s, {megabytes(memory)}"
    parts = list(image_folder(dataset).glob("*"))
    size = sum(path.stat().st_size for path in (dataset, *parts))
    files = f" in {1 + len(parts)} files" if parts else ""
    return Row(what, f"{rate}; dataset of {size / 1e6:.0f} MB{files}"), dataset


def timed(function: Callable[[], int]) -> tuple[int, float]:
    """What ``function`` returns, and its seconds."""
    began = time.perf_counter()
    found = function()
    return found, time.perf_counter() - began


def scored_rows(job: Job) -> list[Row]:
    """Cutting images into small squares and scoring each."""
    images = QUICK[0] if job.quick else SCORED_IMAGES
    _, dataset = prepare_row(job.folder / "scored", images, in_place=True)
    model, regions, scores = (dataset.with_name(name) for name in ("light.safetensors", "regions.h5", "scores.h5"))
    write_network(model, dataset, **LIGHT)
    cut = ["extract-superpixels", str(dataset), "-o", str(regions), "--method", "grid", "--count", str(SQUARES)]
    score = ["score", str(dataset), "--model", str(model), "-o", str(scores), "--unit", "region"]
    score += ["--superpixels", str(regions), "--measure", "margin", "--input-scale", "0.25", "--device", "cpu"]
    found = []
    for command, output in ((cut, regions), (score, scores)):
        memory, took = timed(partial(peak, *command))
        what = f"`alseg {command[0]}`, {images * SQUARES} regions in {images} images of {WIDTH}x{HEIGHT}"
        size = output.stat().st_size / 1e6
        found.append(Row(what, f"{plain(took)} s, {megabytes(memory)}; {plain(size)} MB"))
    shutil.rmtree(dataset.parent)
    return found


def region_rows(job: Job) -> list[Row]:
    """`select` among a hundred million regions, whose files have what it reads."""
    images = 50 if job.quick else REGION_IMAGES
    what = f"`alseg select`, {BUDGET} of {images * REGIONS} regions, no ledger"
    free = min(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), shutil.disk_usage(job.folder).free)
    if not job.quick and free < NEEDED:
        return [Row(what, f"not measured (only {free / 1e9:.0f} GB free)")]
    dataset, superpixels, scores = (job.folder / f"{name}-large.h5" for name in ("dataset", "superpixels", "scores"))
    write_pool(dataset, superpixels, scores, images)
    command = [*ALSEG, "select", str(dataset), str(scores), "--superpixels", str(superpixels), "--rule", "top"]
    command += ["--budget", str(BUDGET), "-o", str(job.folder / "queries-large.h5"), "--force"]
    peaks: list[int] = []
    taken = measure(lambda: peaks.append(kilobytes(*command)), 1 if job.quick else 3, warm_up=False)
    size = sum(path.stat().st_size for path in (superpixels, scores))
    result = (
        f"{taken.text('s')}, {megabytes(max(peaks))}; {max(peaks) * 1024 / (images * REGIONS):.0f} bytes per region"
    )
    for path in (dataset, superpixels, scores):
        path.unlink()
    return [Row(f"{what}, read from {size / 1e6:.0f} MB", result, "below 24 GB")]
