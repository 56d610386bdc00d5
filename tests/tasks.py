"""Trainings without the command `train`, on the CPU, with grey as 0 of the input."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from stages.artifacts.dataset import Dataset
from stages.artifacts.labels import open_labels
from stages.networks.build import build_network
from stages.runtime.parts import OBJECTIVES
from stages.runtime.ranks import Ranks
from stages.settings.train import TrainSettings
from stages.training.checkpoints import Checkpoints
from stages.training.learner import Learner
from stages.training.loop import Training
from stages.training.samples.maps import TrainingSamples
from stages.training.task import Task

MEAN, STD = (0.5,) * 3, (0.25,) * 3
ALONE = Ranks()


def samples_of(dataset: Path, ledger: Path, settings: TrainSettings, kind: Any = TrainingSamples, **more: Any) -> Any:
    """The samples that a training with ``settings`` reads."""
    files = Dataset(dataset), open_labels(ledger)
    return kind(*files, settings.augmentation, MEAN, settings.seed, settings.learn_void, **more)


def network_of(settings: TrainSettings, outputs: int) -> nn.Module:
    """A new network with random weights, with support heads if the objective trains them."""
    torch.manual_seed(0)
    return build_network(settings.network, outputs, OBJECTIVES[settings.objective].facts["support"])


def learner_of(
    dataset: Path, ledger: Path, settings: TrainSettings, network: nn.Module, ranks: Ranks = ALONE
) -> Learner:
    """The learner of the objective that ``settings`` name."""
    files = Dataset(dataset), open_labels(ledger)
    task = Task(network, *files, settings, MEAN, STD, torch.device("cpu"), ranks)
    return OBJECTIVES[settings.objective](task, settings.of_objective)


def training_of(output: Path, dataset: Path, ledger: Path, settings: TrainSettings, outputs: int, key: str) -> Training:
    """A training that has not begun; its checkpoints lie beside ``output``."""
    learner = learner_of(dataset, ledger, settings, network_of(settings, outputs))
    return Training(learner, settings, Checkpoints(output, key), ALONE)
