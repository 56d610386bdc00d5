"""Whole images as units: training beside a discriminator, scoring many from their file, choosing some of them."""

import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import LIBVER, Writer
from stages.artifacts.header import Header, now, recorded_versions
from stages.artifacts.publish import publishing
from stages.commands import annotate_simulate, score, select, train
from stages.datasets.scenes import generate_scene
from stages.networks.discriminator import Discriminator
from stages.networks.predictor import image_batches
from stages.pixels.void import VOID
from stages.runtime.devices import choose_device, forward_precision
from stages.runtime.randomness import stream
from stages.runtime.ranks import Ranks
from stages.selecting.farthest import farthest
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.common import NetworkUse
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings
from stages.settings.train import TrainSettings
from stages.training.checkpoints import Checkpoints
from stages.training.learners.adversarial import AdversarialLearner
from stages.training.loop import Training
from stages.training.objectives.adversarial import AdversarialSettings
from stages.training.samples.streams import StreamSamples
from tests.bench.material import quiet, street_dataset
from tests.bench.measure import ALSEG, SEED, Job, Measured, Row, measure, plain, run
from tests.bench.memory import kilobytes, megabytes
from tests.bench.training import CLASSES, FLIP_ONLY, KEY, TimedLearner, new_network, new_task, rates, run_in_turns

# As in the recipe als4gan, and small enough for a CPU; accepted predictions count from the first step on.
GPU: dict[str, Any] = {"backbone": "resnet101", "output_stride": 8, "aspp_rates": (6, 12, 18, 24), "batch": 10}
CPU: dict[str, Any] = {
    "backbone": "tf_efficientnet_lite0",
    "output_stride": 16,
    "aspp_rates": (3, 6, 9, 12),
    "batch": 4,
    "discriminator_width": 16,
}
SETTINGS: dict[str, Any] = FLIP_ONLY | {
    "seed": SEED,
    "objective": "adversarial",
    "architecture": "deeplabv2",
    "weights": "none",
    "optimiser": "adamw",
    "head_lr": 1e-3,
    "backbone_lr": 3e-4,
    "weight_decay": 1e-2,
    "schedule": "one-cycle",
    "self_training_from": 0,
}
MASKS = 0.25  # share of the images

IMAGES, QUICK_IMAGES = 10_000, 200
SIDE = 256
IMAGE_CLASSES = 10
CHOSEN = 100
FEATURES = 2048  # of a ResNet-50
# As little network as there is, so that reading and the stage around it count.
SMALL, INPUT_SCALE = "test_resnet", 0.125


def rows(job: Job) -> list[Row]:
    return [*adversarial_rows(job), *scoring_rows(job), k_centre_row(job)]


# Training with masks, without, and a discriminator.


class TimedAdversarial(TimedLearner, AdversarialLearner):
    """Counts the seconds in which the loop waits for its next batch."""


class BareLoop:
    """What one writes by hand for spec als4gan.md 4.2: everything in memory, no augmentation, padding, void or extras.

    images (N,3,H,W) u8, of which the first ones have ``masks`` (M,H,W) u8.
    """

    def __init__(self, settings: TrainSettings, images: Tensor, masks: Tensor, statistics: Any, device: torch.device):
        self.images, self.masks, self.device = images, masks, device
        self.optimisation, own = settings.optimisation, settings.of_objective
        assert isinstance(own, AdversarialSettings)
        self.own, self.autocast = own, settings.execution.precision
        self.mean, self.std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in statistics)
        self.network: nn.Module = new_network(settings, device)
        self.discriminator = Discriminator(CLASSES, own.discriminator_width).to(device)
        self.numbers = torch.arange(CLASSES, device=device).view(1, -1, 1, 1)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=self.optimisation.head_lr, weight_decay=self.optimisation.weight_decay
        )
        self.other = torch.optim.Adam(self.discriminator.parameters(), lr=own.discriminator_lr, betas=(0.9, 0.99))

    def epoch(self, steps: int) -> None:
        self.network.train()
        self.discriminator.train()
        known, batch = len(self.masks), self.optimisation.batch
        for _ in range(steps):
            labelled, real = torch.randint(known, (2, batch))
            unlabelled = torch.randint(known, len(self.images), (batch,))
            images, without, others = (self.as_floats(indices) for indices in (labelled, unlabelled, real))
            self.step(images, without, others, self.as_labels(labelled), self.as_labels(real))

    def as_floats(self, indices: Tensor) -> Tensor:
        return self.images[indices].to(self.device, non_blocking=True).float().div_(255)

    def as_labels(self, indices: Tensor) -> Tensor:
        return self.masks[indices].to(self.device, non_blocking=True).long()

    def predicted(self, images: Tensor) -> Tensor:
        normalised = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        with self.precision():
            return self.network(normalised)

    def judged(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        with self.precision():
            return self.discriminator(pairs)

    def precision(self) -> AbstractContextManager[object]:
        return forward_precision(self.autocast, self.device)

    def step(self, images: Tensor, unlabelled: Tensor, others: Tensor, labels: Tensor, masks: Tensor) -> Tensor:
        """(2,) the losses of both networks; images (B,3,H,W) f32 in 0..1, labels of ``images``, masks of ``others``."""
        self.discriminator.requires_grad_(False)
        supervised = F.cross_entropy(self.predicted(images).float(), labels, ignore_index=VOID)
        logits = self.predicted(unlabelled).float()
        fake = torch.cat([logits.softmax(1), unlabelled], 1)
        real = torch.cat([(masks.unsqueeze(1) == self.numbers).float(), others], 1)
        _, fake_features = self.judged(fake)
        with torch.no_grad():
            _, real_features = self.judged(real)
        matching = (real_features.float().mean(0) - fake_features.float().mean(0)).abs().mean()
        self.discriminator.eval()
        with torch.no_grad():
            scores, _ = self.judged(fake)
        self.discriminator.train()
        rejected = scores.float().sigmoid() <= self.own.gate
        targets = logits.detach().argmax(1).masked_fill(rejected[..., None], VOID)
        total = F.cross_entropy(logits, targets, ignore_index=VOID, reduction="sum")
        trained = total / (targets != VOID).sum().clamp(min=1)
        loss = supervised + self.own.feature_matching * matching + self.own.self_training * trained
        descend(self.optimiser, loss)

        self.discriminator.requires_grad_(True)
        real_scores, fake_scores = (self.judged(pairs)[0].float() for pairs in (real, fake.detach()))
        on_real = F.binary_cross_entropy_with_logits(real_scores, torch.ones_like(real_scores))
        on_fake = F.binary_cross_entropy_with_logits(fake_scores, torch.zeros_like(fake_scores))
        other_loss = (on_real + on_fake) / 2
        descend(self.other, other_loss)
        return torch.stack([loss, other_loss]).detach()


def descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()


def adversarial_rows(job: Job) -> list[Row]:
    device = choose_device("auto")
    on_gpu = device.type == "cuda"
    height, width = (320, 320) if on_gpu else (64, 80) if job.quick else (128, 160)
    count, steps = (16, 1) if job.quick else (160, 12) if on_gpu else (64, 8)
    dataset = street_dataset(job.folder, count, height, width)
    masks = answers(dataset, round(MASKS * count), "mask")
    epochs = {"epochs": 2 if job.quick else 13, "steps_per_epoch": steps}
    settings = TrainSettings.load(SETTINGS | (GPU if on_gpu else CPU) | epochs)
    training = new_adversarial(dataset, masks, settings, device)
    bare_loop = new_bare_loop(training)
    ours, others, waiting = run_in_turns(training, lambda: bare_loop.epoch(steps), job.folder)
    training.checkpoints.remove()
    pairs = settings.optimisation.batch
    own, bare = rates(2 * pairs * steps, ours), rates(2 * pairs * steps, others)
    ratios = Measured.of([mine / other for mine, other in zip(ours, others, strict=True)])
    batch = f"batch {pairs} + {pairs} of {width}x{height}"
    precision = "bfloat16" if on_gpu else "float32"
    return [
        Row(f"bare PyTorch loop with a discriminator, {batch}, {precision}", bare.text("images/s")),
        Row("`alseg train --objective adversarial`, flips as its only augmentation", own.text("images/s")),
        Row(
            "its time over that of the bare loop, of the two medians (of neighbouring epochs)",
            f"{bare.median / own.median:.3f} ({ratios.low:.3f} to {ratios.high:.3f})",
            "at most 1.15",
        ),
        Row("of its time spent waiting for data", f"{plain(100 * waiting, 2)} %"),
    ]


def new_adversarial(dataset: Path, masks: Path, settings: TrainSettings, device: torch.device) -> Training:
    """The loop as the stage `train` builds it."""
    assert isinstance(settings.of_objective, AdversarialSettings)
    learner = TimedAdversarial(new_task(dataset, masks, settings, device), **settings.of_objective.flat())
    return Training(learner, settings, Checkpoints(dataset.with_name("adversarial"), KEY), Ranks())


def new_bare_loop(training: Training) -> BareLoop:
    """On everything that ``training`` has."""
    learner = training.learner
    assert isinstance(learner, TimedAdversarial)
    assert isinstance(learner.samples, StreamSamples)
    data, given = learner.dataset, learner.labels
    known = learner.samples.ids
    found = [torch.from_numpy(data.image(name)).permute(2, 0, 1) for name in [*known, *learner.samples.unlabelled]]
    masks = torch.stack([torch.from_numpy(given.label_map(name)) for name in known])
    statistics = learner.mean, learner.std
    return BareLoop(training.settings, torch.stack(found), masks, statistics, learner.device)


def answers(dataset: Path, count: int, kind: Literal["mask", "class"]) -> Path:
    """The ledger of a first round beside ``dataset``: the masks or the classes of ``count`` random images."""
    scores, queries, ledger = (dataset.with_name(f"{kind}-{name}.h5") for name in ("scores", "queries", "annotations"))
    chosen = {"seed": SEED, "rule": "uniform", "budget": count, "image_answer": kind}
    with quiet():
        score.run(dataset, scores, ScoreSettings.load({"seed": SEED, "measure": "random", "unit": "image"}))
        select.run(dataset, scores, queries, SelectSettings.load(chosen))
        annotate_simulate.run(dataset, queries, ledger, AnnotateSettings.load({"seed": SEED}))
    return ledger


# The commands `score` and `select` on many images.


def scoring_rows(job: Job) -> list[Row]:
    """The images' file was written just before, so that it lies in the page cache as far as there is room."""
    images, repeat = (QUICK_IMAGES, 1) if job.quick else (IMAGES, 3)
    side = int(SIDE * INPUT_SCALE)
    what = f"`alseg score --unit image`, {images} images of {SIDE}x{SIDE}, a tiny network on {side}x{side}"
    size, free = images * 3 * SIDE**2, shutil.disk_usage(job.folder).free
    if free < 2 * size:
        return [Row(what, f"not measured (only {free / 1e9:.1f} GB of disk free)")]
    folder = job.folder / "many-images"
    folder.mkdir()
    dataset, scores, queries = (folder / f"{name}.h5" for name in ("dataset", "scores", "queries"))
    write_many(dataset, images)
    command = [*ALSEG, "score", str(dataset), "--model", str(small_classifier(dataset)), "-o", str(scores), "--force"]
    command += ["--unit", "image", "--measure", "entropy", "--input-scale", str(INPUT_SCALE)]
    peaks: list[int] = []
    scoring = measure(lambda: peaks.append(kilobytes(*command)), repeat, warm_up=False)
    reading = measure(lambda: read_all(dataset), repeat, warm_up=False)
    memory = f"{megabytes(max(peaks))}, of which {megabytes(kilobytes(ALSEG[0], '-c', 'import torch'))} to import torch"
    chosen = CHOSEN * images // IMAGES
    command = [*ALSEG, "select", str(dataset), str(scores), "-o", str(queries), "--force"]
    command += ["--rule", "top", "--budget", str(chosen)]
    choosing = measure(lambda: run(command), repeat, warm_up=False)
    dataset.unlink()
    return [
        Row(what, f"{scoring.text('s')}, {plain(images / scoring.median)} images/s"),
        Row(f"its peak memory, the images being {size / 1e6:.0f} MB", memory, "at most 1200 MB"),
        Row("reading those images and nothing else", f"{reading.text('s')}, {plain(images / reading.median)} images/s"),
        Row(f"`alseg select`, {chosen} of {images} images by entropy", choosing.text("s")),
    ]


def write_many(path: Path, count: int) -> None:
    """A dataset of images with classes and without masks, never in memory as a whole: one scene, shifted."""
    scene, _ = generate_scene(SEED, "train", 0, SIDE, SIDE)
    ids = [f"{index:05d}" for index in range(count)]
    names = [f"class{index}" for index in range(IMAGE_CLASSES)]
    attributes: dict[str, Any] = {
        "name": "many",
        "classes": names,
        "image_classes": names,
        "palette": [[20 * index, 0, 0] for index in range(IMAGE_CLASSES)],
        "ignore_index": VOID,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "licence": "",
    }
    header = Header(
        "dataset", "bench", {}, {}, SEED, attributes=attributes, versions=recorded_versions(), created=now()
    )
    with publishing(path) as partial, h5py.File(partial, "w", libver=LIBVER) as file:
        writer = Writer(file)
        for index, name in enumerate(ids):
            writer.array(f"images/{name}", np.roll(scene, index, axis=(0, 1)), compress=False)
        writer.strings("index/id", ids)
        writer.strings("index/split", ["train"] * count)
        writer.array("index/height", np.full(count, SIDE, np.int32))
        writer.array("index/width", np.full(count, SIDE, np.int32))
        writer.array("index/label", np.arange(count, dtype=np.int32) % IMAGE_CLASSES)
        writer.finish(header)


def small_classifier(dataset: Path) -> Path:
    """A classifier of the images of ``dataset``, trained on a few of them for a moment."""
    model = dataset.with_name("classifier.safetensors")
    side = int(SIDE * INPUT_SCALE)
    few = {"epochs": 1, "batch": 4, "crop": (side, side), "scale_range": (INPUT_SCALE, INPUT_SCALE)}
    network = {"objective": "image-classes", "architecture": "classifier", "backbone": SMALL, "weights": "none"}
    with quiet():
        train.run(dataset, answers(dataset, 8, "class"), model, TrainSettings.load({"seed": SEED} | network | few))
    return model


def read_all(dataset: Path) -> None:
    with Dataset(dataset) as data:
        for _ in image_batches(data, data.ids("train"), NetworkUse().batch):
            pass


# Choosing by features in memory.


def k_centre_row(job: Job) -> Row:
    images, chosen = (QUICK_IMAGES, 2) if job.quick else (IMAGES, CHOSEN)
    features = stream(SEED, "features").standard_normal((images, FEATURES), dtype=np.float32)
    taken = measure(lambda: farthest(features, features[:0], chosen), 1 if job.quick else 3)
    return Row(f"{chosen} of {images} images by k-centre, {FEATURES} features each, in memory", taken.text("s"))
