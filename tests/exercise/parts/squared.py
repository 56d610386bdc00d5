"""An objective: squared errors of the probabilities at labelled pixels."""

from pydantic import Field

from stages.settings.base import PartSettings
from stages.training.objectives import objective


class SquaredSettings(PartSettings):
    steepness: float = Field(1.0, gt=0, description="Factor on the logits.")


@objective("squared", labels="maps", settings=SquaredSettings)
def squared(task, settings):
    """Learn one class per pixel by squared errors of the probabilities."""
    import torch.nn.functional as F

    from stages.training.learners.network import NetworkLearner

    class SquaredLearner(NetworkLearner):
        def losses(self, logits, batch):
            labels = batch.labels.to(self.device)
            inside = labels != 255
            picked = (settings.steepness * logits.float()).permute(0, 2, 3, 1)[inside].softmax(1)
            wanted = F.one_hot(labels[inside].long(), picked.shape[1])
            count = self.ranks.sum(inside.sum())
            return {"loss": ((picked - wanted) ** 2).sum() * self.ranks.size / count}

    return SquaredLearner(task)
