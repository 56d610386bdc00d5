"""Learning from masks and from images without one."""

from typing import TYPE_CHECKING

from pydantic import Field

from stages.settings.train import ClassWeightSettings
from stages.training.objectives import objective
from stages.training.task import Task

if TYPE_CHECKING:
    from stages.training.learner import Learner


class AdversarialSettings(ClassWeightSettings):
    unlabelled_split: str = Field("train", description="Split whose images without labels are also learned from.")
    feature_matching: float = Field(0.1, ge=0, description="Weight of the feature matching loss.")
    self_training: float = Field(1.0, ge=0, description="Weight of the loss on accepted predictions.")
    self_training_from: int = Field(1000, ge=0, description="Steps before the loss on accepted predictions counts.")
    gate: float = Field(
        0.6, ge=0, le=1, description="Accept a prediction if the discriminator's probability of real exceeds this."
    )
    discriminator_lr: float = Field(1e-4, ge=0, description="Peak learning rate of the discriminator.")
    discriminator_width: int = Field(64, ge=1, description="Channels of the discriminator's first convolution.")


@objective("adversarial", labels="masks", settings=AdversarialSettings)
def adversarial(task: Task, settings: AdversarialSettings) -> "Learner":
    """Learn from full masks and from images without one, with a discriminator that tells masks from predictions."""
    from stages.training.learners.adversarial import AdversarialLearner

    return AdversarialLearner(
        task,
        class_weights=settings.class_weights,
        unlabelled_split=settings.unlabelled_split,
        feature_matching=settings.feature_matching,
        self_training=settings.self_training,
        self_training_from=settings.self_training_from,
        gate=settings.gate,
        discriminator_lr=settings.discriminator_lr,
        discriminator_width=settings.discriminator_width,
    )
