"""An orthomosaic that is too large to be read whole: time and peak memory of `prepare` and `predict`."""

import time
from pathlib import Path

import numpy as np

from alseg_cli.options import option_name, shown
from tests.bench.measure import SEED, Job, Row
from tests.bench.memory import megabytes, peak
from tests.bench.training import FLIP_ONLY, SETTINGS

SIDE, QUICK_SIDE = 10_000, 1_500
CLASSES = 3
DESCRIPTION = """
name = "large"
classes = [
    { name = "water", color = [0, 0, 200] },
    { name = "field", color = [0, 200, 0] },
    { name = "road", color = [90, 90, 90] },
]
[splits.all]
images = "ortho/{id}.tif"
masks = "masks/{id}.tif"
[division]
split = "all"
shares = { train = 0.6, val = 0.2, test = 0.2 }
[tiles]
size = 512
overlap = 64
block = 4
"""


def rows(job: Job) -> list[Row]:
    side = QUICK_SIDE if job.quick else SIDE
    root = job.folder / "large"
    orthomosaic(root, side)
    dataset, model, masks = (root / name for name in ("d.h5", "model.safetensors", "predicted"))
    preparing = taken("prepare", str(root / "large.toml"), "--root", str(root), "-o", str(dataset))
    options = [part for name, value in (SETTINGS | FLIP_ONLY).items() for part in (option_name(name), shown(value))]
    peak("train", str(dataset), str(labels_of_some(dataset)), "-o", str(model), "--epochs", "1", *options)
    found = [Row(f"`alseg prepare`, {side}x{side}, tiles of 512", preparing)]
    for window in (512, 1024, 2048):
        predicting = taken(
            "predict", str(model), str(root / "ortho"), "-o", f"{masks}-{window}", "--window", str(window)
        )
        found.append(Row(f"`alseg predict`, {side}x{side}, {CLASSES} classes, windows of {window}", predicting))
    return found


def labels_of_some(dataset: Path) -> Path:
    """A ledger of ten pixels in each of a few tiles: how long the training takes is of no interest here."""
    scores, queries, ledger = (str(dataset.with_name(f"{name}.h5")) for name in ("scores", "queries", "annotations"))
    peak("score", str(dataset), "--measure", "random", "--most-images", "8", "-o", scores)
    peak("select", str(dataset), scores, "--rule", "uniform", "-o", queries)
    peak("annotate-simulate", str(dataset), queries, "-o", ledger)
    return Path(ledger)


def taken(*arguments: str) -> str:
    began = time.perf_counter()
    memory = peak(*arguments)
    return f"{time.perf_counter() - began:.0f} s, {megabytes(memory)}"


def orthomosaic(root: Path, side: int) -> None:
    """An image with three classes, a corner of it without data, its mask and its description; written row by row."""
    import rasterio
    from rasterio.transform import from_origin
    from rasterio.windows import Window

    for name in ("ortho", "masks"):
        (root / name).mkdir(parents=True)
    (root / "large.toml").write_text(DESCRIPTION)
    generator = np.random.default_rng(SEED)
    size = {"driver": "GTiff", "height": side, "width": side, "dtype": "uint8", "crs": "EPSG:32633"}
    layout = {
        "tiled": True,
        "compress": "deflate",
        "zlevel": 1,
        "transform": from_origin(500_000, 4_600_000, 0.05, 0.05),
    }
    columns = np.arange(side)[None]
    with (
        rasterio.open(root / "ortho" / "field.tif", "w", count=3, **size, **layout) as image,
        rasterio.open(root / "masks" / "field.tif", "w", count=1, **size, **layout) as mask,
    ):
        for top in range(0, side, 256):
            lines = np.arange(top, min(top + 256, side))[:, None]
            classes = ((lines // 700 + columns // 900) % CLASSES).astype(np.uint8)
            noise = generator.integers(0, 40, (3, *classes.shape), dtype=np.uint8)
            pixels = np.where(lines + columns < side // 2, np.uint8(0), 70 * classes + 40 + noise)
            window = Window(0, top, side, len(lines))
            image.write(pixels, window=window)
            mask.write(classes[None], window=window)
