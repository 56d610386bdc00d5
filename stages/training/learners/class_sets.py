"""A network learning from the sets of classes of regions."""

import numpy as np
from torch import Tensor

from stages.artifacts.annotations import Annotations
from stages.training.learners.class_set_losses import Over, SetLosses, class_set_losses, weighted_sum
from stages.training.learners.network import NetworkLearner
from stages.training.samples.maps import Batch, SetSamples
from stages.training.task import Task


class ClassSetLearner(NetworkLearner):
    """``loss_factors`` are the weights of the losses of single classes, of merged ones, and of prototypes."""

    samples_kind = SetSamples

    def __init__(self, task: Task, loss_factors: tuple[float, float, float], merged_over: Over, prototypes_over: Over):
        super().__init__(task)
        self.loss_factors, self.merged_over, self.prototypes_over = loss_factors, merged_over, prototypes_over

    def named_classes(self) -> np.ndarray:
        assert isinstance(self.labels, Annotations)
        return np.any(self.labels.answers.class_sets, 0)[: len(self.label_counts)]

    def losses(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        assert batch.sets is not None
        own = class_set_losses(
            logits,
            batch.labels.to(self.device, non_blocking=True).long(),
            batch.sets.to(self.device, non_blocking=True),
            self.merged_over,
            self.prototypes_over,
        )
        # counts of the whole batch, of which each process has a share; DDP then averages the gradients
        shared = SetLosses(*((loss, self.ranks.sum(count)) for loss, count in own))
        names = ("single", "merged", "prototype")
        parts = {
            name: loss.detach() * self.ranks.size / (1 + count)
            for name, (loss, count) in zip(names, shared, strict=True)
        }
        return {"loss": weighted_sum(shared, self.loss_factors) * self.ranks.size, **parts}
