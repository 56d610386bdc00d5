"""Learning from the classes named together for regions."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from stages.settings.base import PartSettings
from stages.training.objectives import objective
from stages.training.task import Task

if TYPE_CHECKING:
    from stages.training.learner import Learner


class ClassSetSettings(PartSettings):
    single_weight: float = Field(16.0, ge=0, description="Weight of the cross-entropy of regions with one class.")
    merged_weight: float = Field(8.0, ge=0, description="Weight of the merged positive loss.")
    prototype_weight: float = Field(1.0, ge=0, description="Weight of the prototypical pixel loss.")
    merged_over: Literal["several", "all"] = Field(
        "several", description="Regions of the merged positive loss: those with several classes, or all."
    )
    prototypes_over: Literal["several", "all"] = Field(
        "several", description="Regions of the prototypical pixel loss: those with several classes, or all."
    )


@objective("class-sets", labels="class-sets", features=True, settings=ClassSetSettings)
def class_sets(task: Task, settings: ClassSetSettings) -> "Learner":
    """Learn from the set of classes named for each region."""
    from stages.training.learners.class_sets import ClassSetLearner

    weights = settings.single_weight, settings.merged_weight, settings.prototype_weight
    return ClassSetLearner(task, weights, settings.merged_over, settings.prototypes_over)
