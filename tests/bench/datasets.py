"""Masks, `prepare`, and reading the prepared file again."""

from functools import partial

import numpy as np

from stages.commands import prepare
from stages.datasets.description import load_description
from stages.datasets.mask_files import class_lookup, decode_mask
from stages.runtime.randomness import stream
from stages.settings.prepare import PrepareSettings
from tests.bench.material import CAMVID, quiet, street_files
from tests.bench.measure import ALSEG, SEED, Job, Measured, Row, measure, run, seconds

WORKERS = (1, 2)


def rows(job: Job) -> list[Row]:
    return [remap_row(job), *prepare_rows(job)]


def remap_row(job: Job) -> Row:
    lookup = class_lookup(load_description("cityscapes"))
    ids = stream(SEED, "ids").integers(0, 34, (256, 512)).astype(np.uint8)
    taken = measure(lambda: decode_mask(ids, lookup), 20 if job.quick else 200)
    return Row("Cityscapes labelIds to classes, 256x512", taken.text("ms", 1e3), "at most 1 ms", "89 ms")


def prepare_rows(job: Job) -> list[Row]:
    if CAMVID.is_dir() and not job.quick:
        name, description, root = "CamVid", "camvid", CAMVID
        images = sum(len(list((root / split).glob("*.png"))) for split in ("train", "val", "test"))
    else:
        images = 20 if job.quick else 200
        root = job.folder / "street-files"
        name, description = "scenes", str(street_files(root, images, 360, 480))
    output = job.folder / "prepared.h5"
    found = []
    for long_side in (256, None):  # the full size last: its file is read below
        taken: dict[int, list[float]] = {workers: [] for workers in WORKERS}
        for _ in range(1 if job.quick else 3):  # in turns, so that drift cancels
            for workers in WORKERS:
                settings = PrepareSettings.load({"seed": SEED, "long_side": long_side, "workers": workers})
                with quiet():
                    taken[workers].append(seconds(partial(prepare.run, description, root, output, settings, True)))
        size = "480x360" if long_side is None else "480x360 to 256x192"
        found += [
            Row(
                f"`prepare` {name}, {images} images, {size}, {workers} worker{'s' if workers > 1 else ''}",
                Measured.of([images / value for value in taken[workers]]).text("images/s"),
            )
            for workers in WORKERS
        ]
    megabytes = output.stat().st_size / 1e6
    for command in ("inspect", "verify"):
        taken_by = measure(partial(run, [*ALSEG, command, str(output)]), 1 if job.quick else 3)
        rate = f"{megabytes / taken_by.median:.0f} MB/s"
        found.append(Row(f"`alseg {command}` of that file, {megabytes:.0f} MB", f"{taken_by.text('s')}, {rate}"))
    return found
