"""The training loop against a bare loop on the same network, images, batch and device, in alternating epochs."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.header import digest_of
from stages.artifacts.labels import open_labels
from stages.artifacts.publish import publish_bytes
from stages.commands.train import history_csv, input_statistics
from stages.networks.build import build_network
from stages.networks.predictor import place
from stages.runtime.devices import choose_device
from stages.runtime.ranks import Ranks
from stages.settings.train import TrainSettings
from stages.training.checkpoints import Checkpoints
from stages.training.learners.labels import LabelLearner
from stages.training.learners.network import NetworkLearner
from stages.training.loop import HistoryRow, Training
from stages.training.losses.cross_entropy import cross_entropy
from stages.training.task import Task
from tests.bench.material import first_labels, quiet, street_dataset
from tests.bench.measure import SEED, Job, Measured, Row, measure, plain

CLASSES = 11
KEY = digest_of("bench")  # of the checkpoints
# DeepLabV3+ on EfficientNet-Lite0 with a head of 128 channels, from random weights, augmented by flips alone
SETTINGS: dict[str, Any] = {
    "seed": SEED,
    "backbone": "tf_efficientnet_lite0",
    "head_width": 128,
    "weights": "none",
    "batch": 8,
    "optimiser": "adamw",
    "head_lr": 1e-3,
    "backbone_lr": 3e-4,
    "weight_decay": 1e-2,
    "schedule": "one-cycle",
}
FLIP_ONLY: dict[str, Any] = {"scale_range": (1.0, 1.0), "jitter": 0.0, "grey": 0.0, "blur": 0.0}


def bare_epoch(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    statistics: tuple[Tensor, Tensor],
    batch: int,
) -> None:
    """What one writes by hand: images (N,3,H,W) u8 and labels (N,H,W) u8 in memory, no augmentation, no extras."""
    mean, std = statistics
    network.train()
    for indices in torch.randperm(len(images)).split(batch):
        pixels = images[indices].to(mean.device, non_blocking=True).float().div_(255).sub_(mean).div_(std)
        targets = labels[indices].to(mean.device, non_blocking=True).long()
        with torch.autocast(mean.device.type, torch.bfloat16, enabled=mean.device.type == "cuda"):
            logits = network(pixels.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), targets, ignore_index=255)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()


class TimedLearner(NetworkLearner):
    """Counts the seconds in which the loop waits for its next batch."""

    waited = 0.0

    def batches(self, first: int) -> Iterator[Any]:
        batches = super().batches(first)
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - began
            if batch is None:
                return
            yield batch


class TimedLabels(TimedLearner, LabelLearner):
    """A network learning from label maps."""


def new_network(settings: TrainSettings, device: torch.device) -> nn.Module:
    torch.manual_seed(SEED)
    return place(build_network(settings.network, CLASSES), device)


def new_task(dataset: Path, ledger: Path, settings: TrainSettings, device: torch.device) -> Task:
    """As the stage `train` makes it."""
    data, labels = Dataset(dataset), open_labels(ledger)
    mean, std = input_statistics(data, settings.normalisation, settings.network.backbone)
    return Task(new_network(settings, device), data, labels, settings, mean, std, device, Ranks())


def new_training(dataset: Path, ledger: Path, settings: TrainSettings, device: torch.device) -> Training:
    """The loop as the stage `train` builds it."""
    learner = TimedLabels(new_task(dataset, ledger, settings, device), cross_entropy)
    return Training(learner, settings, Checkpoints(dataset.with_name("model"), KEY), Ranks())


def new_bare_loop(training: Training, dataset: Path, ledger: Path, device: torch.device) -> Callable[[], None]:
    """An epoch of the bare loop on everything that ``training`` has."""
    settings, learner = training.settings.optimisation, training.learner
    assert isinstance(learner, TimedLabels)
    with Dataset(dataset) as data, Annotations(ledger) as answers:
        images = torch.stack([torch.from_numpy(data.image(name)).permute(2, 0, 1) for name in learner.samples.ids])
        labels = torch.stack([torch.from_numpy(answers.label_map(name)) for name in learner.samples.ids])
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (learner.mean, learner.std))
    network = new_network(training.settings, device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.head_lr, weight_decay=settings.weight_decay)
    return lambda: bare_epoch(network, optimiser, images, labels, (mean, std), settings.batch)


def run_in_turns(training: Training, other: Callable[[], None], folder: Path) -> tuple[list[float], list[float], float]:
    """Seconds of every epoch of ``training`` and of ``other`` called after each, but the first of both, and the share
    of time that the training waited for data."""
    learner = training.learner
    assert isinstance(learner, TimedLearner)
    ours: list[float] = []
    others: list[float] = []
    mark = time.perf_counter()

    def lap() -> float:
        nonlocal mark
        if learner.device.type == "cuda":
            torch.cuda.synchronize()
        before, mark = mark, time.perf_counter()
        return mark - before

    def after_epoch(history: list[HistoryRow]) -> None:
        publish_bytes(folder / "history.csv", history_csv(history))  # as the stage does
        ours.append(lap())
        if len(ours) == 1:
            learner.waited = 0.0
        other()
        others.append(lap())

    with quiet():
        training.run(after_epoch)
    return ours[1:], others[1:], learner.waited / sum(ours[1:])


def rows(job: Job) -> list[Row]:
    device = choose_device("auto")
    on_gpu = device.type == "cuda"
    height, width = (360, 480) if on_gpu else (192, 256)
    count = 16 if job.quick else 160 if on_gpu else 48
    dataset = street_dataset(job.folder, count, height, width)
    ledger = first_labels(dataset)
    settings = TrainSettings.load(SETTINGS | FLIP_ONLY | {"epochs": 3 if job.quick else 12})
    training = new_training(dataset, ledger, settings, device)
    bare_loop = new_bare_loop(training, dataset, ledger, device)
    ours, others, waiting = run_in_turns(training, bare_loop, job.folder)
    checkpoint = measure(training.save, 3)
    training.checkpoints.remove()

    augmented = TrainSettings.load(SETTINGS | {"epochs": 3 if job.quick else 5})
    fully, _, fully_waiting = run_in_turns(new_training(dataset, ledger, augmented, device), lambda: None, job.folder)
    own, bare, batch = rates(count, ours), rates(count, others), settings.optimisation.batch
    ratios = Measured.of([other / mine for mine, other in zip(ours, others, strict=True)])
    precision = "bfloat16" if on_gpu else "float32"
    return [
        Row(f"bare PyTorch loop, batch {batch} of {width}x{height}, {precision}", bare.text("images/s")),
        Row("the loop of `alseg train`, flips as its only augmentation", own.text("images/s")),
        Row(
            "ratio of the two medians (of neighbouring epochs)",
            f"{own.median / bare.median:.3f} ({ratios.low:.3f} to {ratios.high:.3f})",
            "at least 0.90",
        ),
        Row("of its time spent waiting for data", f"{plain(100 * waiting, 2)} %"),
        Row("the loop of `alseg train`, all augmentations of PixelPick", rates(count, fully).text("images/s")),
        Row("of its time spent waiting for data", f"{plain(100 * fully_waiting, 2)} %"),
        Row("writing a resume checkpoint (every 60 s)", checkpoint.text("s")),
    ]


def rates(images: int, epochs: list[float]) -> Measured:
    """Images per second of epochs that took so many seconds."""
    return Measured.of([images / value for value in epochs])
