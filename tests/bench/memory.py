"""Peak memory of whole commands."""

import sys

from alseg_cli.options import option_name, shown
from tests.bench.material import first_labels, street_dataset
from tests.bench.measure import ALSEG, Job, Row, run
from tests.bench.training import FLIP_ONLY, SETTINGS

# The peak that the kernel reports of a process includes that of whoever started it, so a small process stands between.
LAUNCHER = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


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
    ]


def peak(*arguments: str) -> int:
    return kilobytes(*ALSEG, *arguments)


def kilobytes(*command: str) -> int:
    """The peak resident memory of a command."""
    return int(run([sys.executable, "-c", LAUNCHER, *command]))


def megabytes(kilobytes: int) -> str:
    return f"{kilobytes * 1.024e-3:.0f} MB"
