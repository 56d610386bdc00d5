"""Queries out to the formats of other tools, and answers back in."""

import shutil
from pathlib import Path

from tests.bench.measure import ALSEG, Job, Measured, Row, run, seconds

DESCRIPTION = """
name = "large"
classes = [{classes}]
[generator]
name = "scenes"
height = 1024
width = 2048
images = {{ train = {images} }}
"""
NAMES = ("sky", "building", "road", "pavement", "grass", "tree", "car", "pole", "person")
IMAGES, REGIONS, ASKED = 20, 1000, 2000
FORMATS = {"COCO": "answers.coco.json", "PNG": "answers", "CSV": "answers.csv"}
KINDS = {"dominant": FORMATS, "class-set": ("COCO", "CSV"), "precise": ("COCO", "PNG")}


def rows(job: Job) -> list[Row]:
    images, repeat = (2, 1) if job.quick else (IMAGES, 3)
    asked = ASKED * images // IMAGES
    folder = job.folder / "interchange"
    data, regions = prepared(folder, images)
    found = []
    for kind, formats in KINDS.items():
        queries, ledger = folder / f"{kind}.h5", folder / f"{kind}-answers.h5"
        about = [str(data), str(queries), "--superpixels", str(regions)]
        chosen = ["--rule", "top", "--budget", str(asked), "--answer", kind]
        run([*ALSEG, "select", str(data), str(folder / "scores.h5"), *about[2:], *chosen, "-o", str(queries)])
        run([*ALSEG, "annotate-simulate", *about, "-o", str(ledger)])
        for name in formats:
            file = folder / FORMATS[name]
            out = [*ALSEG, "export-queries", *about, "--annotations", str(ledger), "-o", str(file)]
            back = [*ALSEG, "import-answers", *about, str(file), "--force", "-o", str(folder / "back.h5")]
            times = []
            for _ in range(repeat):
                remove(file)
                times.append((seconds(lambda: run(out)), seconds(lambda: run(back))))  # noqa: B023
            there, home = (Measured.of(values).text("s") for values in zip(*times, strict=True))
            what = f"{asked} answers ({kind}) in {images} images of 1024x2048, {name}"
            found.append(Row(f"{what}: `alseg export-queries`; `alseg import-answers`", f"{there}; {home}"))
    return found


def prepared(folder: Path, images: int) -> tuple[Path, Path]:
    """A dataset, its regions, and beside them their scores."""
    folder.mkdir()
    colours = [f'{{ name = "{name}", color = [{20 * number}, 90, 40] }}' for number, name in enumerate(NAMES)]
    (folder / "large.toml").write_text(DESCRIPTION.format(classes=", ".join(colours), images=images))
    data, regions = folder / "d.h5", folder / "r.h5"
    run([*ALSEG, "prepare", str(folder / "large.toml"), "-o", str(data)])
    run([*ALSEG, "extract-superpixels", str(data), "--count", str(REGIONS), "-o", str(regions)])
    scored = ["score", str(data), "--unit", "region", "--measure", "random", "--superpixels", str(regions)]
    run([*ALSEG, *scored, "-o", str(folder / "scores.h5")])
    return data, regions


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
