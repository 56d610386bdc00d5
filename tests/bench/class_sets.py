"""Answers that name classes together: giving them, choosing by PixBal, learning from them, one class per pixel.

As a program (``python -m tests.bench.class_sets WORK FOLDER REPEAT``) it prints the seconds of every repetition of one
of WORKS and the memory it took, in a process of its own because memory that was taken before would hide it.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from stages.answering.ledger import append_answers
from stages.answering.simulated.answered import within_budget
from stages.answering.simulated.trimming import evidence
from stages.artifacts.answers import Answers
from stages.artifacts.queries import Queries
from stages.artifacts.superpixels import Superpixels
from stages.datasets.scenes import generate_scene
from stages.pixels.runs import Areas
from stages.pixels.void import VOID
from stages.regions.cut import cut
from stages.runtime.randomness import stream
from tests.bench.measure import SEED, Job, Measured, Row, run, seconds

SIZE = (1024, 2048)
REGIONS = 2048
CLASSES = 19
IMAGES = 2975  # of the Cityscapes training set
CLICKS = 100_000  # of a round
ASKED = 150  # regions of an image, all rounds together
SET_SIZES = (0.5, 0.3, 0.15, 0.05)  # share of regions with one, two, ... classes

Work = Callable[[], object]


def rows(job: Job) -> list[Row]:
    write_scene(job.folder)
    repeat = 1 if job.quick else 5
    answers, pixbal = worked("answers", job, repeat), worked("pixbal", job, repeat)
    labelling, losses = worked("pseudo_labels", job, repeat), worked("losses", job, repeat)
    return [
        Row("multi-hot answers of all regions of one image", answers, "at most 0.15 s", "20.7 s"),
        Row(
            f"PixBal from logits of {CLASSES} classes, without the network, one thread",
            pixbal,
            "at most 0.4 s, one sweep",
            "0.7 s, two sweeps of inference",
        ),
        Row(
            f"pseudo-labels with expansion, {ASKED} regions, 256 features, {CLASSES + 1} outputs, two threads",
            labelling,
            "at most 1.0 s",
            "5.9 to 9.6 s",
        ),
        Row(f"losses, forward and backward, 4x{CLASSES + 1}x768x768, 10 % answered, one thread", losses),
        *round_rows(job),
    ]


def worked(name: str, job: Job, repeat: int) -> str:
    """Seconds of one of WORKS in a process of its own, and its memory."""
    found = json.loads(run([sys.executable, "-m", "tests.bench.class_sets", name, str(job.folder), str(repeat)]))
    taken = Measured.of(found["seconds"])
    return f"{taken.text('s')}, {found['peak']:.0f} MB ({found['peak'] - found['before']:.0f} MB above its inputs)"


# Works on one image or batch. torch is imported where it is needed: its memory is none of the others'.


def write_scene(folder: Path) -> None:
    """``scene.npz``: a mask and the regions of one image."""
    image, mask = generate_scene(SEED, "train", 0, *SIZE)
    np.savez(folder / "scene.npz", mask=mask, labels=cut(image, "seeds", count=REGIONS))


def random_sets(count: int) -> np.ndarray:
    """(count, CLASSES + 1) bool sets of one to four classes."""
    random = stream(SEED, "sets")
    number = random.choice(len(SET_SIZES), count, p=SET_SIZES) + 1
    rank = random.random((count, CLASSES + 1), dtype=np.float32).argsort(1)
    return rank < number[:, None]


def answers(folder: Path) -> Work:
    scene = np.load(folder / "scene.npz")
    mask, labels = scene["mask"], scene["labels"]
    return lambda: evidence(mask, labels, int(labels.max()) + 1, CLASSES, 5) > 0


def pixbal(folder: Path) -> Work:
    import torch

    from stages.regions.reductions import region_sums
    from stages.scoring.measures.bvsb import bvsb
    from tests.bench.regions import predictions

    torch.set_num_threads(1)
    labels = torch.from_numpy(np.load(folder / "scene.npz")["labels"]).long()
    logits, count = predictions(*SIZE, 128), int(labels.max()) + 1

    def work() -> None:
        with torch.inference_mode():
            region_sums(bvsb(logits[None])[0], logits.max(0).indices, labels, count, len(logits))
            logits.softmax(0).mean((1, 2), dtype=torch.float64).tolist()

    return work


def pseudo_labels(folder: Path) -> Work:
    """Features and cosines in the order in which `stages.networks.directions` gives them."""
    import torch
    import torch.nn.functional as F

    from stages.pseudo_labelling import prototypes

    torch.set_num_threads(2)
    labels = torch.from_numpy(np.load(folder / "scene.npz")["labels"]).long()
    random = torch.Generator().manual_seed(SEED)

    def resized(channels: int) -> torch.Tensor:
        coarse = torch.randn(1, channels, SIZE[0] // 16, SIZE[1] // 16, generator=random)
        coarse = F.normalize(coarse.relu(), dim=1).contiguous(memory_format=torch.channels_last)
        return F.interpolate(coarse, SIZE, mode="bilinear")[0]

    with torch.inference_mode():
        features, scores = resized(256), resized(CLASSES + 1)
    assert features.stride(0) == 1
    asked = torch.from_numpy(stream(SEED, "asked").choice(int(labels.max()) + 1, ASKED, replace=False))
    sets = torch.from_numpy(random_sets(ASKED))

    def work() -> None:
        with torch.inference_mode():
            prototypes.pseudo_labels(features, scores, labels, asked, sets, "reference", normalise=True)

    return work


def losses(folder: Path) -> Work:
    """Regions of 32x32 pixels, every tenth of them answered."""
    import torch

    from stages.training.learners.class_set_losses import class_set_losses, weighted_sum

    torch.set_num_threads(1)
    random = torch.Generator().manual_seed(SEED)
    shape = (4, 768, 768)
    logits = torch.randn(4, CLASSES + 1, *shape[1:], generator=random).contiguous(memory_format=torch.channels_last)
    logits.requires_grad_()
    answered = torch.rand(4, 24, 24, generator=random) < 0.1
    number = int(answered.sum())
    coarse = torch.full(answered.shape, -1)
    coarse[answered] = torch.arange(number)
    places = coarse.repeat_interleave(32, 1).repeat_interleave(32, 2)
    sets = torch.from_numpy(random_sets(number))

    def work() -> None:
        logits.grad = None
        weighted_sum(class_set_losses(logits, places, sets), (16.0, 8.0, 1.0)).backward()

    return work


# A round: the command `select`, and what the answers of its regions come to.


def round_rows(job: Job) -> list[Row]:
    """Masks and label maps are not opened: what an image costs stands above, and public code has it prepared too."""
    from tests.bench.memory import megabytes, peak
    from tests.bench.regions import write_pool

    images = 50 if job.quick else IMAGES
    clicks = CLICKS * images // IMAGES
    names = ("dataset", "superpixels", "scores", "queries")
    dataset, superpixels, scores, queries = (job.folder / f"{name}-of-sets.h5" for name in names)
    write_pool(dataset, superpixels, scores, images, REGIONS)
    command = ["select", str(dataset), str(scores), "--superpixels", str(superpixels), "-o", str(queries), "--force"]
    command += ["--rule", "top", "--answer", "class-set", "--budget", str(clicks)]
    peaks: list[int] = []
    repeat = 1 if job.quick else 3
    ranking = [seconds(lambda: peaks.append(peak(*command))) for _ in range(repeat)]
    sets = random_sets(images * REGIONS)
    with Superpixels(superpixels) as regions, Queries(queries) as asked:
        answering = [seconds(lambda: answer(regions, asked, sets, clicks)) for _ in range(repeat)]
    both = Measured.of([one + other for one, other in zip(ranking, answering, strict=True)])
    return [
        Row(
            f"`alseg select`, {clicks} class sets of {images * REGIONS} regions",
            f"{Measured.of(ranking).text('s')}, {megabytes(max(peaks))}",
        ),
        Row(f"{clicks} clicks spent on prepared sets, to the rows of the ledger", Measured.of(answering).text("s")),
        Row("both, without a look at masks and label maps", both.text("s"), "below 5 s", "8.4 s"),
    ]


def answer(regions: Superpixels, asked: Queries, sets: np.ndarray, clicks: int) -> None:
    """The rows of a ledger for ``asked``, until the clicks are spent; a region is taken to be 16 runs of pixels."""
    named = sets[asked.region]
    price = np.maximum(named.sum(1), 1)
    rows = np.flatnonzero(within_budget(price, clicks))
    named, count = named[rows], len(rows)
    start = np.tile(np.arange(16, dtype=np.int32) * SIZE[1], count)
    areas = Areas(np.arange(count + 1, dtype=np.int64) * 16, start, np.full(16 * count, 16, np.int32))
    label = np.where(named.sum(1) == 1, named.argmax(1), VOID)
    new = Answers.of(
        count,
        CLASSES,
        image=asked.image[rows],
        region=asked.region[rows],
        label=label,
        clicks=price[rows],
        areas=areas,
        class_sets=named.astype(np.uint8),
    )
    append_answers(None, asked.ids, asked.sizes, new, ["oracle"], superpixels=regions)


WORKS: dict[str, Callable[[Path], Work]] = {
    "answers": answers,
    "pixbal": pixbal,
    "pseudo_labels": pseudo_labels,
    "losses": losses,
}


def memory(name: str) -> float:
    """Megabytes that the kernel tells of this process: VmRSS now, VmHWM the peak."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) * 1.024e-3


if __name__ == "__main__":
    work = WORKS[sys.argv[1]](Path(sys.argv[2]))
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew, from the inputs
    before = memory("VmRSS")
    first = seconds(work)
    taken = [first] if sys.argv[3] == "1" else [seconds(work) for _ in range(int(sys.argv[3]))]
    print(json.dumps({"seconds": taken, "before": before, "peak": memory("VmHWM")}))
