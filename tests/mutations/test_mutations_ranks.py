"""Guards the scaling of losses over the processes of a torchrun launch.

Gradients are averaged over the processes, so each process must divide its sum by what the whole batch counts and
multiply it by the number of processes. Two processes are played by two threads whose sums meet; the mean of their
gradients must be the gradient of one process with the whole batch. The processes get unequal shares.
"""

import copy
import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tasks import learner_of, network_of
from torch import Tensor, nn
from worlds import (
    TINY,
    AnnotateSettings,
    ScoreSettings,
    SelectSettings,
    region_round,
    write_dataset,
    write_superpixels,
)

from stages.commands import annotate_simulate, score, select
from stages.networks import discriminator
from stages.pixels.void import VOID
from stages.runtime.ranks import Ranks
from stages.settings.train import TrainSettings
from stages.training.learners import adversarial
from stages.training.learners.network import NetworkLearner

CLASSES, SIZE = 3, (32, 32)
IMAGES = [f"image{number}" for number in range(8)]
LABELLED = 5  # images in a batch, so that one process has three of them and the other two
PATIENCE = 60  # seconds

CLASSIFIER = {"objective": "image-classes", "architecture": "classifier"}
TEACHER = {"objective": "teacher", "cutmix": 0.0, "threshold": "mean"}  # boxes come from the images of a process
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "labels": ("mask", {"objective": "labels"}),
    "labels, weighted": ("mask", {"objective": "labels", "class_weights": "inverse"}),
    "labels, focal": ("mask", {"objective": "labels", "loss": "focal", "class_weights": "inverse"}),
    "class-sets": ("class-set", {"objective": "class-sets"}),
    "class-sets, all regions": (
        "class-set",
        {"objective": "class-sets", "merged_over": "all", "prototypes_over": "all"},
    ),
    "image-classes": ("class", CLASSIFIER),
    "image-classes, weighted": ("class", CLASSIFIER | {"class_weights": "inverse"}),
    "image-classes, several": ("classes", CLASSIFIER),
    "support": ("mask", {"objective": "support"}),
    "teacher": ("mask", TEACHER),
    "teacher, class-sets": ("class-set", TEACHER | {"student": "class-sets"}),
    "adversarial": ("mask", {"objective": "adversarial", "self_training_from": 0, "discriminator_width": 4}),
}


@dataclass
class Meeting:
    """Where two threads add up their values."""

    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(2, timeout=PATIENCE))
    values: dict[int, Tensor] = field(default_factory=dict)

    def sum(self, rank: int, values: Tensor) -> Tensor:
        self.values[rank] = values.detach().clone()
        self.barrier.wait()
        total = self.values[0] + self.values[1]
        self.barrier.wait()  # the next sum must not begin before both have read this one
        return total


@dataclass(frozen=True)
class ThreadRanks(Ranks):
    """One of two processes, each of which is a thread."""

    size: int = 2
    meeting: Meeting = field(default_factory=Meeting)

    def sum(self, values: Tensor) -> Tensor:
        return self.meeting.sum(self.rank, values)


@dataclass(frozen=True)
class Learned:
    """The losses that a process reports for its batch, the gradients it has, and its share of the labels."""

    losses: dict[str, float]
    gradients: dict[str, Tensor]
    labelled: int


def uneven_masks() -> dict[str, np.ndarray]:
    """Masks with a little void in some images and much in others, and large areas of one class."""
    generator = np.random.default_rng(0)
    masks = {}
    for number, image in enumerate(IMAGES):
        mask = generator.integers(0, CLASSES, (4, 4)).repeat(8, 0).repeat(8, 1)
        mask = np.where(generator.random(SIZE) < 0.2, generator.integers(0, CLASSES, SIZE), mask)
        mask[generator.random(SIZE) < 0.1 + 0.11 * number] = VOID
        masks[image] = mask.astype(np.uint8)
    return masks


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A dataset, and ledgers with the answers of one kind about some of its images."""
    folder = tmp_path_factory.mktemp("ranks")
    generator = np.random.default_rng(1)
    images = {image: generator.integers(0, 256, (*SIZE, 3)).astype(np.uint8) for image in IMAGES}
    made = {"dataset": write_dataset(folder / "d.h5", uneven_masks(), CLASSES, images=images)}
    scores = score.run(made["dataset"], folder / "s.h5", ScoreSettings(measure="random", unit="image"))
    for answer in ("mask", "class", "classes"):
        asked = SelectSettings(rule="top", budget=LABELLED, image_answer=answer)
        queries = select.run(made["dataset"], scores, folder / f"{answer}-queries.h5", asked)
        answered = AnnotateSettings(**({"presence_share": 0.3} if answer == "classes" else {}))
        made[answer] = annotate_simulate.run(made["dataset"], queries, folder / f"{answer}.h5", answered)
    superpixels = write_superpixels(folder, made["dataset"], split="train")
    asked = {"answer": "class-set", "budget": 30}
    made["class-set"] = region_round(
        folder, made["dataset"], 0, superpixels, select_settings=asked, annotate_settings={"trim": 0}
    )
    return made


@pytest.fixture(autouse=True)
def _alike_without_torch_distributed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing to wrap the network in, so the gradients are averaged below, and no dropout, which each process draws."""
    monkeypatch.setattr(NetworkLearner, "wrapped", lambda self, module: module)
    monkeypatch.setattr(discriminator, "DROPOUT", 0.0)
    # Built once, before the threads: they share torch's generator, between a seed and the weights drawn from it too
    built = functools.cache(discriminator.Discriminator)
    monkeypatch.setattr(adversarial, "Discriminator", lambda *sizes: copy.deepcopy(built(*sizes)))


def learned(
    paths: tuple[Path, Path],
    settings: TrainSettings,
    network: nn.Module,
    ranks: Ranks,
    changed: Callable[[Any], Any] = lambda batch: batch,
) -> Learned:
    """One step of ``network`` with this process's share of the first batch."""
    own = copy.deepcopy(network)
    learner = learner_of(*paths, settings, own, ranks)
    learner.optimisers()
    own.eval()  # dropout and batch normalisation would tell a share from the whole
    batch = changed(next(iter(learner.batches(0))))
    step = next(iter(learner.updates(batch)), None)
    assert step is not None, f"process {ranks.rank} skipped the step"
    name, losses = step
    losses["loss"].backward()
    learner.share_gradients(name)
    gradients = {name: each.grad for name, each in own.named_parameters() if each.grad is not None}
    labelled = batch.labelled if isinstance(batch.labelled, int) else int((batch.labelled.labels != VOID).sum())
    return Learned({name: float(value.detach()) for name, value in losses.items()}, gradients, labelled)


def two_processes(*arguments: Any, changed: Callable[[int, Any], Any] = lambda rank, batch: batch) -> list[Learned]:
    meeting = Meeting()

    def process(rank: int) -> Learned:
        try:
            return learned(*arguments, ThreadRanks(rank, 2, meeting), lambda batch: changed(rank, batch))
        except BaseException:
            meeting.barrier.abort()  # the other one need not wait
            raise

    with ThreadPoolExecutor(2) as threads:
        running = [threads.submit(process, rank) for rank in (0, 1)]
    for error in [each.exception() for each in running]:
        if error is not None and not isinstance(error, threading.BrokenBarrierError):  # that is the other one's fault
            raise error
    return [each.result() for each in running]


def assert_mean(halves: list[Learned], whole: Learned, names: set[str]) -> None:
    """The mean of losses and gradients of two processes is that of one."""
    for name in names:
        mean = sum(half.losses[name] for half in halves) / 2
        assert mean == pytest.approx(whole.losses[name], rel=1e-4), name
    assert whole.gradients
    assert any(gradient.abs().max() > 1e-4 for gradient in whole.gradients.values())
    for name, gradient in whole.gradients.items():
        mean = sum(half.gradients.get(name, torch.zeros_like(gradient)) for half in halves) / 2
        torch.testing.assert_close(mean, gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max()) + 1e-7)


def prepared(case: str, world: dict[str, Path], **more: Any) -> tuple[tuple[Path, Path], TrainSettings, nn.Module]:
    labels, values = CASES[case]
    batch = 4 if case == "adversarial" else LABELLED  # there each process takes as many
    settings = TrainSettings.load(values | more, offered=TINY | {"batch": batch, "epochs": 1})
    return (world["dataset"], world[labels]), settings, network_of(settings, CLASSES)


def gate_of_one_image(arguments: Any, monkeypatch: pytest.MonkeyPatch) -> float:
    """A gate that accepts one image of the batch, so that one of two processes has all that are accepted."""
    scores: list[float] = []

    def accepted(z: Tensor, gate: float) -> Tensor:
        scores.extend(z.tolist())
        return z > gate

    with monkeypatch.context() as patch:
        patch.setattr(adversarial, "accepted", accepted)
        learned(*arguments, Ranks())
    return sum(sorted(scores)[-2:]) / 2


@pytest.mark.parametrize("case", CASES)
def test_two_processes_learn_what_one_learns_of_the_whole_batch(
    world: dict[str, Path], case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = prepared(case, world)
    if case == "adversarial":
        arguments = prepared(case, world, gate=gate_of_one_image(arguments, monkeypatch))
    whole, halves = learned(*arguments, Ranks()), two_processes(*arguments)
    assert sum(half.labelled for half in halves) == whole.labelled
    assert halves[0].labelled != halves[1].labelled
    if case == "adversarial":  # nothing wraps its networks, so it must average the gradients itself
        assert whole.losses["accepted"] == pytest.approx(1 / 4), "one image, so that only one process trains itself"
        assert_mean(halves, whole, {"loss", "supervised", "matching", "self_training"})
        torch.testing.assert_close(halves[0].gradients, halves[1].gradients)
    else:
        assert_mean(halves, whole, {*whole.losses})


@pytest.mark.parametrize("case", ["labels", "labels, weighted"])
def test_a_process_without_labels_takes_the_step_with_the_other(world: dict[str, Path], case: str) -> None:
    """Then the whole batch counts what the other process has."""
    arguments = prepared(case, world)

    def emptied(rank: int, batch: Any) -> Any:
        return batch if rank == 0 else replace(batch, labels=torch.full_like(batch.labels, VOID), labelled=0)

    def of_the_first(batch: Any) -> Any:
        labels = batch.labels.clone()
        labels[1::2] = VOID  # the second process's share
        return replace(batch, labels=labels, labelled=int((labels != VOID).sum()))

    halves = two_processes(*arguments, changed=emptied)
    assert halves[1].labelled == 0
    assert_mean(halves, learned(*arguments, Ranks(), of_the_first), {"loss"})
