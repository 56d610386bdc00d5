"""A network learning from label maps, by any of the losses of one class per pixel."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from stages.training.learners.network import NetworkLearner
from stages.training.samples.maps import Batch
from stages.training.task import Task


class LabelLearner(NetworkLearner):
    """``loss`` is a registered loss (see stages/training/losses) or a like function, ``loss_settings`` its settings."""

    def __init__(
        self,
        task: Task,
        loss: Callable[..., tuple[Tensor, Tensor]],
        loss_settings: Any = None,
        class_weights: str = "none",
    ):
        super().__init__(task, class_weights)
        self.loss, self.loss_settings = loss, loss_settings

    def losses(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        labels = batch.labels.to(self.device, non_blocking=True)
        total, mass = self.loss(logits.float(), labels, self.weights, self.loss_settings)
        mass = self.ranks.sum(mass)
        # DDP averages gradients over the processes; the factor makes it the mean over the mass of all of them
        return {"loss": total * self.ranks.size / mass}
