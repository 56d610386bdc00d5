"""Score maps of many images, and the choice of pixels in them: how time, memory and bytes grow."""

from functools import partial
from pathlib import Path

from tests.bench.measure import Job, Row, plain
from tests.bench.memory import megabytes, peak
from tests.bench.scale import CLASSES, HEIGHT, LIGHT, QUICK, WIDTH, prepare_row, timed
from tests.worlds import write_network

IMAGES = (400, 1_600)  # the first number shows how memory grows
COCO = 118_287  # images of its training set
MARGIN = ["--measure", "margin", "--keep-share", "0.06", "--input-scale", "0.25", "--device", "cpu"]


def rows(job: Job) -> list[Row]:
    found = []
    for number in QUICK if job.quick else IMAGES:
        row, dataset = prepare_row(job.folder, number, in_place=False)
        found += [row, *pixel_rows(dataset, number)]
        dataset.unlink()
    return found


def pixel_rows(dataset: Path, number: int) -> list[Row]:
    """Score maps of ``number`` images and the choice among them."""
    model, scores = dataset.with_name("light.safetensors"), dataset.with_name(f"scores-{number}.h5")
    write_network(model, dataset, **LIGHT)
    command = ["score", str(dataset), "--model", str(model), "-o", str(scores), *MARGIN]
    memory, took = timed(partial(peak, *command))
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
