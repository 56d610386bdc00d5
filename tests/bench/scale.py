"""Tens of thousands of images, prepared where they lie, and the choice among a hundred million regions."""

import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.bench.material import many_files
from tests.bench.measure import ALSEG, Job, Row, measure, plain
from tests.bench.memory import kilobytes, megabytes, peak
from tests.bench.regions import REGIONS, write_pool

HEIGHT, WIDTH = 480, 640
IN_PLACE, QUICK = (2_000, 20_000), (16, 32)  # images; the first number shows how memory grows
CLASSES = 19
REGION_IMAGES = 12_208  # 100 million regions
NEEDED = 8 << 30  # bytes that must be free to write and choose among them
BUDGET = 100_000


def rows(job: Job) -> list[Row]:
    prepared = [prepare_row(job.folder, number, in_place=True)[0] for number in (QUICK if job.quick else IN_PLACE)]
    return [*prepared, *region_rows(job)]


def prepare_row(folder: Path, number: int, in_place: bool) -> tuple[Row, Path]:
    """Time, memory and bytes of `prepare`, and the dataset."""
    root = folder / f"many-{number}-{'in-place' if in_place else 'stored'}"
    description, dataset = many_files(root, number, HEIGHT, WIDTH, CLASSES), root / "dataset.h5"
    command = ["prepare", str(description), "--root", str(root), "-o", str(dataset)]
    if in_place:
        command.append("--in-place")
    memory, took = timed(partial(peak, *command))
    what = f"`alseg prepare{' --in-place' if in_place else ''}`, {number} JPEG images of {WIDTH}x{HEIGHT}"
    rate = f"{plain(took)} s, {plain(number / took)} images/s, {megabytes(memory)}"
    return Row(what, f"{rate}; dataset of {dataset.stat().st_size / 1e6:.0f} MB"), dataset


def timed(function: Callable[[], int]) -> tuple[int, float]:
    """What ``function`` returns, and its seconds."""
    began = time.perf_counter()
    found = function()
    return found, time.perf_counter() - began


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
