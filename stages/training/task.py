"""What an objective makes a learner from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.runtime.ranks import Ranks
from stages.settings.train import TrainSettings

if TYPE_CHECKING:
    import torch
    from torch import nn

    from stages.artifacts.dataset import Dataset
    from stages.artifacts.labels import Labels


@dataclass(frozen=True)
class Task:
    """A network to train, the files to train it on, and how.

    ``network`` is on ``device`` with its initial weights. ``dataset`` and ``labels`` stay open from the check of the
    inputs to the end of the training, so that a file replaced meanwhile is not mixed in; ``labels`` has the kind of
    labels that the objective declares. Images in 0..1 are normalised by ``mean`` and ``std`` per channel.
    """

    network: "nn.Module"
    dataset: "Dataset"
    labels: "Labels"
    settings: TrainSettings
    mean: Sequence[float]
    std: Sequence[float]
    device: "torch.device"
    ranks: Ranks
