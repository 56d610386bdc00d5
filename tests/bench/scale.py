"""How stages grow with the number of images and regions: tens of thousands of images, a hundred million regions."""

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
from tests.worlds import write_network

HEIGHT, WIDTH = 480, 640
# of images; of each pair the second is the largest that is measured, the first shows how memory grows
IN_PLACE, STORED, SCORED = (2_000, 20_000), (1_000, 5_000), (500, 2_000)
QUICK = (16, 32)
COCO = 118_287  # images of its training set
CLASSES = 19
MARGIN = ["--measure", "margin", "--keep-share", "0.06", "--input-scale", "0.25"]
LIGHT = {"architecture": "light", "head_width": 16}
HUNDRED_MILLION = 12_208  # images of 8192 regions
NEEDED = 8 << 30  # bytes that must be free to write and choose among them
BUDGET = 100_000


def rows(job: Job) -> list[Row]:
    found = []
    for in_place, numbers in ((True, IN_PLACE), (False, STORED)):
        for number in QUICK if job.quick else numbers:
            row, dataset = prepare_row(job.folder, number, in_place)
            found.append(row)
            if not in_place:
                dataset.unlink()
    largest = (QUICK if job.quick else IN_PLACE)[-1]
    dataset = files_of(job.folder, largest, True) / "dataset.h5"
    for number in QUICK if job.quick else SCORED:
        found += pixel_rows(dataset, number)
    return [*found, *region_rows(job)]


def files_of(folder: Path, number: int, in_place: bool) -> Path:
    return folder / f"many-{number}-{'in-place' if in_place else 'stored'}"


def prepare_row(folder: Path, number: int, in_place: bool) -> tuple[Row, Path]:
    """Time, memory and bytes of `prepare`, and the dataset."""
    root = files_of(folder, number, in_place)
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


def pixel_rows(dataset: Path, number: int) -> list[Row]:
    """Score maps of ``number`` images and the choice among them."""
    model, scores = dataset.with_name("light.safetensors"), dataset.with_name(f"scores-{number}.h5")
    if not model.exists():
        write_network(model, dataset, **LIGHT)
    command = ["score", str(dataset), "--model", str(model), "-o", str(scores), *MARGIN]
    memory, took = timed(partial(peak, *command, "--most-images", str(number)))
    size, factor = scores.stat().st_size, COCO / number
    each = f"{plain(number / took)} images/s, {plain(size / number / 1e3)} kB each"
    scoring = f"{plain(took)} s, {megabytes(memory)}; {each} ({COCO} images: {took * factor / 3600:.1f} h, "
    queries = dataset.with_name("queries.h5")
    memory, choosing = timed(partial(peak, "select", str(dataset), str(scores), "-o", str(queries), "--force"))
    scores.unlink()
    what = f"{number} images of {WIDTH}x{HEIGHT}"
    return [
        Row(
            f"`alseg score`, pixels of {what}, {CLASSES} classes, a light network on a quarter, 6 % kept",
            f"{scoring}{size * factor / 1e9:.1f} GB)",
        ),
        Row(
            f"`alseg select`, 10 pixels in each of {what}",
            f"{plain(choosing)} s, {megabytes(memory)} ({COCO} images: {choosing * factor / 60:.0f} min)",
        ),
    ]


def region_rows(job: Job) -> list[Row]:
    """`select` among a hundred million regions, whose files have what it reads."""
    images = 50 if job.quick else HUNDRED_MILLION
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
