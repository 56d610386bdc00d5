"""Peak memory of whole commands, and of each stage as a function of images, their size, and classes."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from alseg_cli.options import option_name, shown
from stages.commands import annotate_simulate, score, select
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings
from tests.bench.material import first_labels, many_files, quiet, street_dataset
from tests.bench.measure import ALSEG, SEED, Job, Row, plain, run
from tests.bench.training import FLIP_ONLY, SETTINGS
from tests.worlds import write_network

# The peak that the kernel reports of a process includes that of whoever started it, so a small process stands between.
LAUNCHER = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


class Case(NamedTuple):
    """What the memory of a stage is measured at."""

    images: int
    height: int
    width: int
    classes: int

    @property
    def pixels(self) -> int:
        return self.height * self.width

    def text(self) -> str:
        return f"{self.images} images of {self.width}x{self.height}, {self.classes} classes"


# Each of the three alone, then size and classes together, which tells what there is per pixel and class
CASES = [Case(16, 240, 320, 12), Case(208, 240, 320, 12), Case(16, 480, 640, 12), Case(16, 240, 320, 48)]
CASES.append(Case(16, 480, 640, 48))
QUICK_CASES = [Case(16, 64, 80, 12), Case(17, 64, 80, 12), Case(16, 128, 160, 12), Case(16, 64, 80, 13)]
QUICK_CASES.append(Case(16, 128, 160, 13))
BATCH = 4
REGION_IMAGES, QUICK_REGION_IMAGES, REGION_SIZE, REGION_PIXELS = (60, 240), (2, 4), (240, 320), 4
HUNDRED_MILLION = 10**8  # regions
LIGHT = {"architecture": "light", "backbone": "mobilenetv3_small_050", "head_width": 32}


def rows(job: Job) -> list[Row]:
    train_count, score_count = (16, 8) if job.quick else (48, 32)
    dataset = street_dataset(job.folder, train_count, 192, 256)
    model = dataset.with_name("model.safetensors")
    options = [part for name, value in (SETTINGS | FLIP_ONLY).items() for part in (option_name(name), shown(value))]
    training = peak("train", str(dataset), str(first_labels(dataset)), "-o", str(model), "--epochs", "1", *options)
    pool = street_dataset(job.folder, score_count, 360, 480)
    scoring = peak("score", str(pool), "--model", str(model), "-o", str(pool.with_name("margin.h5")))
    torch_alone = kilobytes(sys.executable, "-c", "import torch")
    return [
        Row("a process that imports torch and does nothing", megabytes(torch_alone)),
        Row(f"`alseg train`, batch 8 of 192x256, {train_count} images", megabytes(training)),
        Row(f"`alseg score`, batch 4 of 360x480, 11 classes, {score_count} images", megabytes(scoring)),
        *stage_rows(job),
        *region_rows(job),
    ]


def stage_rows(job: Job) -> list[Row]:
    """A formula for each stage, from its peaks in all cases."""
    cases = QUICK_CASES if job.quick else CASES
    found = [peaks_of_stages(job.folder / f"memory-{number}", case) for number, case in enumerate(cases)]
    head = Row("the five cases of the rows below", "; ".join(case.text() for case in cases))
    return [head, *(stage_row(what, cases, [peaks[what] for peaks in found]) for what in found[0])]


def stage_row(what: str, cases: Sequence[Case], peaks: Sequence[int]) -> Row:
    """``peaks`` in kilobytes."""
    (base, image, pixel, both), off = fitted(cases, [1024 * each for each in peaks])
    text = f"{base / 1e6:.0f} MB + {plain(image / 1e3, 2)} kB per image"
    text += f" + ({plain(pixel, 2)} + {plain(both, 2)} x classes) bytes per pixel of an image"
    measured = ", ".join(megabytes(each).removesuffix(" MB") for each in peaks)
    return Row(what, f"{text}; measured {measured} MB, at most {100 * off:.0f} % from that")


def fitted(cases: Sequence[Case], peaks: Sequence[float]) -> tuple[list[float], float]:
    """Bytes: base, per image, per pixel, and per pixel and class, none negative; and the largest relative deviation.

    ``peaks`` (N,) bytes of each of ``cases``.
    """
    columns = np.array([[1, case.images, case.pixels, case.pixels * case.classes] for case in cases], dtype=np.float64)
    scales = columns.max(0)
    found = nnls(columns / scales, np.array(peaks, dtype=np.float64))[0] / scales
    return found.tolist(), float((np.abs(columns @ found - peaks) / peaks).max())


def peaks_of_stages(folder: Path, case: Case) -> dict[str, int]:
    """Kilobytes of the largest process of each stage, all on the CPU."""
    description, names = many_files(folder, *case), ("dataset", "superpixels", "clusters", "scores", "queries")
    paths = {name: str(folder / f"{name}.h5") for name in (*names, "annotations", "labels", "evaluation")}
    dataset, superpixels, scores = (paths[name] for name in ("dataset", "superpixels", "scores"))
    model, ledger = str(folder / "model.safetensors"), paths["annotations"]
    on_cpu, batch = ["--device", "cpu"], ["--batch", str(BATCH)]
    found: dict[str, int] = {}

    def note(what: str, *command: str) -> None:
        found[f"`alseg {command[0]}`{what}"] = peak(*command)

    note("", "prepare", str(description), "--root", str(folder), "-o", dataset, "--workers", "2")
    cutting = ["-o", superpixels, "--region-pixels", "256", "--workers", "1"]
    note(", seeds, 1 worker", "extract-superpixels", dataset, *cutting)
    encoder = ["--encoder", LIGHT["backbone"], "--weights", "none", "--clusters", "4", "--workers", "1", *on_cpu]
    note(", a light encoder, 1 worker", "cluster-regions", dataset, superpixels, "-o", paths["clusters"], *encoder)
    write_network(Path(model), Path(dataset), **LIGHT)
    note(f", pixels, batch {BATCH}", "score", dataset, "--model", model, "-o", scores, *batch, *on_cpu)
    note(", pixels", "select", dataset, scores, "-o", paths["queries"])
    note("", "annotate-simulate", dataset, paths["queries"], "-o", ledger)
    network = [part for name, value in LIGHT.items() for part in (option_name(name), shown(value))]
    trained = ["-o", str(folder / "trained.safetensors"), "--weights", "none", "--epochs", "1", *batch, *on_cpu]
    note(f", a light network, batch {BATCH} of whole images", "train", dataset, ledger, *trained, *network)
    regions = str(answered_regions(folder, Path(dataset), Path(superpixels)))
    labelled = [*(dataset, regions, "--model", model, "-o", paths["labels"]), *batch, *on_cpu]
    note(f", sieve, batch {BATCH}", "pseudo-label", *labelled)
    evaluated = [model, "-o", paths["evaluation"], "--split", "train", "--checkpoint", "last"]
    note(f", batch {BATCH}", "evaluate", dataset, *evaluated, *batch, *on_cpu)
    return found


def region_rows(job: Job) -> list[Row]:
    """What stages need per region, from two numbers of very small regions in equal images."""
    numbers = QUICK_REGION_IMAGES if job.quick else REGION_IMAGES
    few, many = (peaks_of_regions(job.folder / f"memory-of-regions-{number}", number) for number in numbers)
    height, width = REGION_SIZE
    regions = [number * height * width // REGION_PIXELS for number in numbers]
    found = []
    for what in few:
        each = 1024 * (many[what] - few[what]) / (regions[1] - regions[0])
        total = 1024 * few[what] + each * (HUNDRED_MILLION - regions[0])
        measured = f"{megabytes(few[what])} and {megabytes(many[what])} for {regions[0]} and {regions[1]} regions"
        found.append(Row(what, f"{each:.0f} bytes per region ({measured}); {total / 1e9:.1f} GB for 100 million"))
    return found


def peaks_of_regions(folder: Path, images: int) -> dict[str, int]:
    """Kilobytes of the largest process of each stage that works on all regions together."""
    dataset, superpixels, scores, queries = (str(folder / f"{name}.h5") for name in ("dataset", "cut", "scores", "q"))
    run([*ALSEG, "prepare", str(many_files(folder, images, *REGION_SIZE)), "--root", str(folder), "-o", dataset])
    cutting = ["--method", "grid", "--region-pixels", str(REGION_PIXELS), "--workers", "1"]
    model, given = folder / "model.safetensors", ["--superpixels", superpixels]
    write_network(model, Path(dataset), **LIGHT)
    scoring = ["--model", str(model), "--unit", "region", "--measure", "bvsb", "--device", "cpu"]
    return {
        "`alseg extract-superpixels`, all regions": peak("extract-superpixels", dataset, "-o", superpixels, *cutting),
        "`alseg score --unit region`, all regions": peak("score", dataset, "-o", scores, *given, *scoring),
        "`alseg select`, all regions": peak("select", dataset, scores, "-o", queries, "--rule", "top", *given),
    }


def answered_regions(folder: Path, dataset: Path, superpixels: Path) -> Path:
    """A ledger of ten regions per image."""
    scores, queries, ledger = (folder / f"region-{name}.h5" for name in ("scores", "queries", "annotations"))
    chosen = {"seed": SEED, "rule": "top", "budget": 10, "per_image": True}
    with quiet():
        scored = ScoreSettings.load({"seed": SEED, "measure": "random", "unit": "region"})
        score.run(dataset, scores, scored, superpixels=superpixels)
        select.run(dataset, scores, queries, SelectSettings.load(chosen), superpixels=superpixels)
        annotate_simulate.run(dataset, queries, ledger, AnnotateSettings.load({"seed": SEED}), superpixels=superpixels)
    return ledger


def peak(*arguments: str) -> int:
    return kilobytes(*ALSEG, *arguments)


def kilobytes(*command: str) -> int:
    """The peak resident memory of a command."""
    return int(run([sys.executable, "-c", LAUNCHER, *command]))


def megabytes(kilobytes: int) -> str:
    return f"{kilobytes * 1.024e-3:.0f} MB"
