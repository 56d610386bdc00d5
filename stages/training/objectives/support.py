"""Learning support heads."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from stages.settings.train import ClassWeightSettings
from stages.training.objectives import objective
from stages.training.task import Task

if TYPE_CHECKING:
    from stages.training.learner import Learner

Weight = Annotated[float, Field(ge=0)]


class SupportSettings(ClassWeightSettings):
    side_weights: tuple[Weight, Weight, Weight] = Field(
        (0.1, 0.2, 0.3), description="Weights of the cross-entropies of the three side classifiers."
    )
    side_weight: float = Field(
        0.5, ge=0, description="Weight of the sum of the side losses. The lossiness head's loss has weight 1."
    )
    frozen_dropout: bool = Field(
        False, description="Keep dropout in the frozen network, as the public code does; its losses are noisy."
    )


@objective("support", labels="maps", start=True, support=True, settings=SupportSettings)
def support(task: Task, settings: SupportSettings) -> "Learner":
    """Train support heads beside the frozen network of --model: side classifiers, their mixing, and its lossiness."""
    from stages.training.learners.support import SupportLearner

    return SupportLearner(
        task, settings.side_weights, settings.side_weight, settings.frozen_dropout, settings.class_weights
    )
