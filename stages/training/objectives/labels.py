"""Learning from label maps."""

from typing import TYPE_CHECKING

from stages.runtime.parts import LOSSES
from stages.settings.base import PartSettings, chosen, part_group
from stages.settings.train import ClassWeightSettings
from stages.training.objectives import objective
from stages.training.task import Task

if TYPE_CHECKING:
    from stages.training.learner import Learner


class LabelSettings(ClassWeightSettings):
    loss: str = chosen(LOSSES, "cross-entropy", "Loss over the labelled pixels.")
    of_loss: PartSettings | None = part_group("loss")


@objective("labels", labels="maps", features=True, settings=LabelSettings)
def labels(task: Task, settings: LabelSettings) -> "Learner":
    """Learn one class per pixel from annotations or pseudo-labels, sparse or dense."""
    from stages.training.learners.labels import LabelLearner

    return LabelLearner(task, LOSSES[settings.loss], settings.of_loss, settings.class_weights)
