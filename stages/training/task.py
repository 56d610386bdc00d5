"""What an objective makes a learner from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.runtime.ranks import Ranks
from stages.settings.train import TrainSettings

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Task:
    """A network to train, the files to train it on, and how.

    ``network`` is on ``device`` with its initial weights. ``dataset`` and ``labels`` are the paths of artifacts;
    ``labels`` has the kind of labels that the objective declares. Images in 0..1 are normalised by ``mean`` and
    ``std`` per channel.
    """

    network: "nn.Module"
    dataset: Path
    labels: Path
    settings: TrainSettings
    mean: Sequence[float]
    std: Sequence[float]
    device: "torch.device"
    ranks: Ranks
