"""Why `alseg` sets GOMP_SPINCOUNT: training steps on a CPU, idle and with one core busy with something else.

As a program (``python -m tests.bench.openmp STEPS``) it prints the seconds of every step.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

from tests.bench.measure import SEED, Job, Measured, Row, run

SPIN = "GOMP_SPINCOUNT"
LONGEST = 20  # seconds after which no further step begins; the slow case takes several seconds for each


def rows(job: Job) -> list[Row]:
    found = []
    for load in ("machine otherwise idle", "one core busy with another process"):
        for spin in ("2000", None):
            with busy_core() if "busy" in load else contextlib.nullcontext():
                steps = Measured.of(step_times(spin, 2 if job.quick else 6))
            setting = f"{SPIN}={spin}" if spin else f"{SPIN} unset"
            found.append(Row(f"a training step on the CPU, {load}, {setting}", steps.text("s")))
    return found


def step_times(spin: str | None, steps: int) -> list[float]:
    environment = {name: value for name, value in os.environ.items() if name != SPIN}
    if spin is not None:
        environment[SPIN] = spin
    return [
        float(value) for value in run([sys.executable, "-m", "tests.bench.openmp", str(steps)], environment).split()
    ]


@contextlib.contextmanager
def busy_core() -> Iterator[None]:
    """Another process computes meanwhile."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def main(steps: int) -> None:
    """Steps of the bare loop on the CPU, after one that is not told."""
    import torch

    from stages.settings.train import TrainSettings
    from tests.bench.training import CLASSES, SETTINGS, bare_epoch, new_network

    settings, device = TrainSettings.load(SETTINGS), torch.device("cpu")
    network, batch = new_network(settings, device), settings.optimisation.batch
    optimiser = torch.optim.AdamW(network.parameters())
    random = torch.Generator().manual_seed(SEED)
    images = torch.randint(256, (batch, 3, 192, 256), dtype=torch.uint8, generator=random)
    labels = torch.randint(CLASSES, (batch, 192, 256), dtype=torch.uint8, generator=random)
    statistics = torch.full((1, 3, 1, 1), 0.5), torch.full((1, 3, 1, 1), 0.5)
    began = time.perf_counter()
    for step in range(steps + 1):
        before = time.perf_counter()
        bare_epoch(network, optimiser, images, labels, statistics, batch)
        now = time.perf_counter()
        if step:
            print(now - before)
            if now - began > LONGEST:
                return


if __name__ == "__main__":
    main(int(sys.argv[1]))
