"""Learning the classes of whole images."""

from typing import TYPE_CHECKING

from stages.settings.train import ClassWeightSettings
from stages.training.objectives import objective
from stages.training.task import Task

if TYPE_CHECKING:
    from stages.training.learner import Learner


@objective("image-classes", labels="image-classes", predicts="images", features=True, settings=ClassWeightSettings)
def classes_of_images(task: Task, settings: ClassWeightSettings) -> "Learner":
    """Learn the class of each image, or which classes are in it."""
    from stages.training.learners.image_classes import ImageLearner

    return ImageLearner(task, settings.class_weights)
