"""One segmentation network learning from answers that name classes together."""

from torch import Tensor

from stages.training.losses.class_sets import SetLosses, class_set_losses, total
from stages.training.objectives.labels import LabelObjective
from stages.training.samples.maps import Batch


class ClassSetObjective(LabelObjective):
    """The objective of label maps with the losses of class sets in place of its cross-entropy."""

    def losses(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        settings = self.settings
        assert batch.sets is not None
        own = class_set_losses(
            logits,
            batch.labels.to(self.device, non_blocking=True).long(),
            batch.sets.to(self.device, non_blocking=True),
            settings.merged_over,
            settings.prototypes_over,
        )
        # counts of the whole batch, for each process has a share of it; DDP then averages the gradients
        shared = SetLosses(*((loss, self.ranks.sum(count.clone())) for loss, count in own))
        weights = (settings.single_weight, settings.merged_weight, settings.prototype_weight)
        names = ("single", "merged", "prototype")
        parts = {
            name: loss.detach() * self.ranks.size / (1 + count)
            for name, (loss, count) in zip(names, shared, strict=True)
        }
        return {"loss": total(shared, weights) * self.ranks.size, **parts}
