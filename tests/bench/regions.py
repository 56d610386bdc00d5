"""Regions of images as large as those of Cityscapes: cutting, merging, scoring and choosing them."""

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.distance import jensenshannon

from stages.answering.ledger import append_answers
from stages.artifacts.answers import Answers
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Artifact, Writer, build_in_memory
from stages.artifacts.header import Header, recorded_versions
from stages.artifacts.images_table import write_images
from stages.artifacts.publish import publish_bytes
from stages.artifacts.queries import Queries
from stages.artifacts.request import refer
from stages.artifacts.superpixels import BOX, Superpixels
from stages.datasets.scenes import generate_scene
from stages.pixels.runs import Areas, areas_of
from stages.pseudo_labelling.sieve import sieve
from stages.regions.components import compact
from stages.regions.cut import MergeTask, RegionGraph, cut, merge_image
from stages.regions.graph import adjacency, region_table
from stages.regions.reductions import region_means, region_sums
from stages.regions.votes import vote
from stages.runtime.processes import core_count
from stages.runtime.randomness import stream
from stages.scoring.measures.bvsb import bvsb
from stages.settings.extract_superpixels import MergeSettings
from tests.bench.measure import ALSEG, SEED, Job, Measured, Row, measure, run, seconds
from tests.bench.memory import megabytes, peak
from tests.worlds import write_dataset

SIZE = (1024, 2048)
CLASSES = 19
REGIONS = 8192
IMAGES = 2975  # of the Cityscapes training set
BUDGET = 50_000  # regions asked in a round
ASKED_PER_IMAGE = BUDGET // IMAGES

Fill = Callable[[Writer], None]

PUBLISHED = {"colour": "equalised-hsv", "levels": 5, "bins": 10}
PUBLISHED_MEMORY = 16 << 30  # bytes that must be free: it takes 11.2 GB

# Without torch, whose memory would hide that of SEEDS. VmHWM is this process's own peak, whereas what getrusage tells
# includes that of whoever started it.
CUT = """
import json, sys, time
from pathlib import Path
import numpy as np
from stages.regions.cut import cut
from stages.regions.opencv import require_ximgproc
require_ximgproc()
image, settings = np.load(sys.argv[1]), json.loads(sys.argv[2])
began = time.perf_counter()
labels = cut(image, "seeds", **settings)
took = time.perf_counter() - began
(peak,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
print(took, peak.split()[1], labels.max() + 1)
"""


def rows(job: Job) -> list[Row]:
    image, _ = generate_scene(SEED, "train", 0, *SIZE)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = [same_map_row(), *reduction_rows(image, 1 if job.quick else 5)]
    finally:
        torch.set_num_threads(threads)
    return [*found, *seeds_rows(job, image), *extract_rows(job, image), *select_rows(job)]


# Merging and scoring, from logits in memory.


def predictions(height: int, width: int, cell: int) -> torch.Tensor:
    """(C,H,W) f32 logits: smooth random fields, sure of themselves but for borders between areas of ``cell`` pixels."""
    random = torch.Generator().manual_seed(SEED)
    coarse = torch.randn(1, CLASSES, height // cell, width // cell, generator=random)
    return (10 * F.interpolate(coarse, (height, width), mode="bicubic"))[0].contiguous()


def merged_map(logits: torch.Tensor, labels: np.ndarray, settings: MergeSettings) -> np.ndarray:
    """Statistics, graph and merging as `extract-superpixels --method adaptive` does them: the merged (H,W) map."""
    count = int(labels.max()) + 1
    base = RegionGraph(region_table(labels, count), *adjacency(labels, count))
    where = torch.from_numpy(labels).long()
    with torch.inference_mode():
        uncertainty = region_means(bvsb(logits[None])[0], where, count)
        shares = region_means(logits.softmax(0), where, count).T
    group, _, _ = merge_image(MergeTask("image", shares.numpy(), uncertainty.numpy(), base, settings, 0))
    return group[labels]


def merged_region_by_region(logits: torch.Tensor, labels: np.ndarray, epsilon: float) -> np.ndarray:
    """``merged_map`` by its definition (adaptive_superpixel.md 2.5), one region, pixel and pair after the other."""
    ids = range(labels.max() + 1)
    probabilities = logits.double().softmax(0).numpy()
    second, first = np.sort(probabilities, axis=0)[-2:]
    shares = [probabilities[:, labels == region].mean(1) for region in ids]
    uncertainty = [(second / first)[labels == region].mean() for region in ids]
    touching: list[set[int]] = [set() for _ in ids]
    for here, there in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
        for one, other in zip(here.ravel().tolist(), there.ravel().tolist(), strict=True):
            touching[one].add(other)
            touching[other].add(one)
    roots: dict[int, int] = {}
    for root in sorted(ids, key=lambda region: (-uncertainty[region], region)):
        stack = [] if root in roots else [root]
        roots.setdefault(root, root)
        while stack:
            for region in touching[stack.pop()] - roots.keys():
                if jensenshannon(shares[root], shares[region]) < epsilon:
                    roots[region] = root
                    stack.append(region)
    return np.array([roots[region] for region in ids])[labels]


def same_map_row() -> Row:
    height, width = 128, 256
    logits, settings = predictions(height, width, 32), MergeSettings()
    labels = cut(np.zeros((height, width, 3), np.uint8), "grid", count=512)
    fast = merged_map(logits, labels, settings)
    same = np.array_equal(fast, compact(merged_region_by_region(logits, labels, settings.epsilon)))
    what = f"the merged map of {height}x{width}, {labels.max() + 1} regions, as of a region-by-region program"
    return Row(what, f"{'equal' if same else 'DIFFERENT'} ({fast.max() + 1} merged regions)", "equal")


def reduction_rows(image: np.ndarray, repeat: int) -> list[Row]:
    logits = predictions(*SIZE, 128)
    labels = cut(image, "seeds", count=REGIONS)
    count, merged = int(labels.max()) + 1, merged_map(logits, labels, MergeSettings())
    merging = measure(lambda: merged_map(logits, labels, MergeSettings()), repeat, warm_up=False)
    where = torch.from_numpy(labels).long()

    def score() -> None:
        with torch.inference_mode():
            region_sums(bvsb(logits[None])[0], logits.max(0).indices, where, count, CLASSES)

    scoring = measure(score, repeat)
    return [
        Row(
            f"statistics, graph and merging of {count} regions into {merged.max() + 1}, one thread",
            merging.text("s"),
            "at most 4 s",
            "116 to 125 s",
        ),
        Row(f"bvsb of {count} regions from logits, one thread", scoring.text("s"), "at most 0.25 s", "7.4 s"),
        *answer_rows(labels, repeat),
    ]


def answer_rows(labels: np.ndarray, repeat: int) -> list[Row]:
    """What an answer costs besides the person: finding its pixels, voting, and sieving them."""
    random = stream(SEED, "answers")
    wanted = random.choice(int(labels.max()) + 1, ASKED_PER_IMAGE, replace=False)
    mask = random.integers(0, CLASSES, labels.size).astype(np.uint8)

    def look_up() -> None:
        index, owner = areas_of(labels, wanted).pixels(np.arange(len(wanted)))
        vote(mask[index], owner, len(wanted), CLASSES)

    looking = measure(look_up, 4 * repeat).text("ms", 1e3 / len(wanted))
    asked = areas_of(labels, np.arange(150))
    owner = asked.pixels(np.arange(len(asked)))[1]
    confidence = random.beta(5, 1, len(owner)).astype(np.float32)
    sieving = measure(lambda: sieve(confidence, owner, len(asked), "max", 20, 512, 0.05), 4 * repeat)
    return [
        Row(f"pixels and votes of a queried region, {len(wanted)} per image", looking, "", "3.8 ms"),
        Row(f"sieving {len(asked)} regions, {len(owner)} pixels", sieving.text("ms", 1e3)),
    ]


# SEEDS, in processes of its own.


def seeds_rows(job: Job, image: np.ndarray) -> list[Row]:
    np.save(job.folder / "image.npy", image)
    ours = [cut_in_process(job, {"count": REGIONS}) for _ in range(1 if job.quick else 3)]
    taken = Measured.of([took for took, _, _ in ours])
    found = [
        Row(f"SEEDS, {ours[0][2]} regions", taken.text("s")),
        Row("peak memory of its process", megabytes(max(memory for _, memory, _ in ours)), "below 1000 MB"),
    ]
    published, public = "SEEDS with the settings of the public code", "30 to 46 s, 11 200 MB"
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if job.quick or free < PUBLISHED_MEMORY:
        reason = "for --quick" if job.quick else f"only {free / 1e9:.0f} GB free"
        return [*found, Row(published, f"not measured ({reason})", "", public)]
    took, memory, count = cut_in_process(job, {"count": REGIONS} | PUBLISHED)
    return [*found, Row(f"{published}, {count} regions", f"{took:.1f} s, {megabytes(memory)}", "", public)]


def cut_in_process(job: Job, settings: dict[str, object]) -> tuple[float, int, int]:
    """Seconds, peak memory in kilobytes, and number of regions of cutting the saved image."""
    printed = run([sys.executable, "-c", CUT, str(job.folder / "image.npy"), json.dumps(settings)])
    took, memory, count = printed.split()
    return float(took), int(memory), int(count)


# The command `extract-superpixels`.


def extract_rows(job: Job, image: np.ndarray) -> list[Row]:
    number = 4 if job.quick else 32  # many, for two workers need half a second each to start
    images = {f"{index:05d}": np.roll(image, 97 * index, axis=1) for index in range(number)}
    dataset = job.folder / "large.h5"
    write_dataset(dataset, dict.fromkeys(images, np.zeros(SIZE, np.uint8)), CLASSES, images=images)
    what = f"`alseg extract-superpixels` of {number} images, {REGIONS} regions each"
    if core_count() < 2:
        return [Row(what, "not measured: two workers need two cores", "at least 1.8 times")]
    command = [*ALSEG, "extract-superpixels", str(dataset), "-o", str(job.folder / "cut.h5"), "--force"]
    taken: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(1 if job.quick else 2):  # in turns, so that drift cancels
        for workers, values in taken.items():
            values.append(seconds(partial(run, [*command, "--count", str(REGIONS), "--workers", str(workers)])))
    ratios = Measured.of([one / two for one, two in zip(taken[1], taken[2], strict=True)])
    return [
        *(
            Row(f"{what}, {workers} worker{'s' if workers > 1 else ''}", Measured.of(values).text("s"))
            for workers, values in taken.items()
        ),
        Row("two workers against one, on two idle cores", ratios.text("times"), "at least 1.8 times"),
    ]


# The command `select`.


def select_rows(job: Job) -> list[Row]:
    """A first round of random scores, and a later one that leaves out what was asked."""
    images = 50 if job.quick else IMAGES
    budget = images * ASKED_PER_IMAGE if job.quick else BUDGET
    dataset, superpixels, scores = (job.folder / f"{name}-of-all.h5" for name in ("dataset", "superpixels", "scores"))
    write_pool(dataset, superpixels, scores, images)
    queries, ledger = job.folder / "queries-of-all.h5", job.folder / "annotations-of-all.h5"
    command = ["select", str(dataset), str(scores), "--superpixels", str(superpixels), "-o", str(queries)]
    command += ["--rule", "top", "--budget", str(budget), "--force"]
    found = []
    for what, options in {"no ledger": [], f"a ledger of {budget}": ["--annotations", str(ledger)]}.items():
        peaks: list[int] = []
        taken = measure(lambda: peaks.append(peak(*command, *options)), 1 if job.quick else 3, warm_up=False)  # noqa: B023
        result = f"{taken.text('s')}, {megabytes(max(peaks))}"
        row = Row(f"`alseg select`, {budget} of {images * REGIONS} regions, {what}", result, "below 10 s and 4000 MB")
        found.append(row)
        if not options:
            write_answers(dataset, superpixels, queries, ledger)
    return found


def publish(path: Path, kind: str, attributes: dict[str, object], inputs: dict[str, Artifact], fill: Fill) -> None:
    header = Header(kind, "bench", {}, refer(path, inputs), SEED, attributes=attributes, versions=recorded_versions())

    def write(writer: Writer) -> Header:
        fill(writer)
        return header

    publish_bytes(path, build_in_memory(write))


def write_pool(dataset: Path, superpixels: Path, scores: Path, images: int, per_image: int = REGIONS) -> None:
    """A dataset, its regions and their scores, as large as they would be but for what `select` does not read.

    No pixels and no label maps, that is, and zeros for the boxes and neighbours of regions; reading what is there is
    part of the work.
    """
    ids, random = [f"{index:05d}" for index in range(images)], stream(SEED, "pool")
    sizes = dict.fromkeys(ids, SIZE)
    none = {"oracle_privilege": "none"}

    def fill_dataset(writer: Writer) -> None:
        writer.strings("index/id", ids)
        writer.strings("index/split", ["train"] * images)
        for name, side in zip(("height", "width"), SIZE, strict=True):
            writer.array(f"index/{name}", np.full(images, side, np.int32))
        writer.array("index/label", np.full(images, -1, np.int32))

    def fill_superpixels(writer: Writer) -> None:
        write_images(writer, ids, sizes)
        writer.array("images/first_region", np.arange(images, dtype=np.int64) * per_image)
        writer.array("images/num_regions", np.full(images, per_image, np.int32))
        writer.array("regions/size", random.integers(128, 385, images * per_image, dtype=np.int32))
        for name in ("image", "label", *BOX):
            writer.array(f"regions/{name}", np.zeros(images * per_image, np.int32))
        writer.array("adjacency/offsets", np.zeros(images * per_image + 1, np.int64))
        writer.array("adjacency/neighbours", np.zeros(0, np.int32))

    def fill_scores(writer: Writer) -> None:
        write_images(writer, ids, sizes)
        writer.array("regions/score", random.random(images * per_image, dtype=np.float32))

    names = [f"class{index}" for index in range(CLASSES)]
    described = {"name": "bench", "classes": names, "palette": [[0, 0, 0]] * CLASSES, "ignore_index": 255}
    described |= {"mean": [0.5] * 3, "std": [0.25] * 3, "licence": ""}
    publish(dataset, "dataset", described, {}, fill_dataset)
    with Dataset(dataset) as data:
        inputs: dict[str, Artifact] = {"dataset": data}
        publish(superpixels, "superpixels", {"method": "seeds", "split": "train"} | none, inputs, fill_superpixels)
        with Superpixels(superpixels) as regions:
            attributes = {"unit": "region", "measure": "bvsb"} | none
            publish(scores, "scores", attributes, inputs | {"superpixels": regions}, fill_scores)


def write_answers(dataset: Path, superpixels: Path, queries: Path, ledger: Path) -> None:
    """A ledger that answers ``queries``; every region is a square of 16 runs of 16 pixels somewhere."""
    with Dataset(dataset) as data, Superpixels(superpixels) as regions, Queries(queries) as asked:
        count = len(asked)
        start = np.tile(np.arange(16, dtype=np.int32) * SIZE[1], count)
        areas = Areas(np.arange(count + 1, dtype=np.int64) * 16, start, np.full(16 * count, 16, np.int32))
        new = Answers.of(count, CLASSES, image=asked.image, region=asked.region, label=0, areas=areas)
        answers = append_answers(None, asked.ids, asked.sizes, new, ["oracle"], superpixels=regions)
        publish(ledger, "annotations", {"classes": data.classes}, {"dataset": data}, answers.write)
