"""Learning from labels, and from a teacher where there are none."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from stages.runtime.parts import LABEL_OBJECTIVES
from stages.settings.base import PartSettings, Settings, chosen, group, part_group
from stages.training.objectives import objective
from stages.training.task import Task

if TYPE_CHECKING:
    from stages.training.learner import Learner


class ConfidenceSettings(Settings):
    confidence: float = Field(0.95, ge=0, le=1, description="Probability from which (mean: at most) one is believed.")


class TeacherSettings(PartSettings):
    student: str = chosen(LABEL_OBJECTIVES, "labels", "Objective by which the student learns the labels.")
    of_student: PartSettings | None = part_group("student")
    teacher_momentum: float = Field(0.99, ge=0, lt=1, description="Share of the teacher's weights that a step keeps.")
    taught_from: float = Field(
        0.0, ge=0, lt=1, description="Share of the training before the teacher's labels count, which costs nothing."
    )
    taught_weight: float = Field(1.0, ge=0, description="Weight of the loss on the teacher's labels.")
    unlabelled_split: str = Field("train", description="Split whose images without labels are also learned from.")
    cutmix: float = Field(
        0.5, ge=0, le=1, description="Probability that a box of an image is replaced by that of another, with labels."
    )
    feature_dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of channels dropped from the features of a second view; 0: no second view."
    )
    threshold: Literal["fixed", "mean", "share"] = Field(
        "fixed",
        description="When a prediction of the teacher is believed: above a fixed probability, above the mean of its "
        "class, or above the mean of all times the share of its class.",
    )
    believed: ConfidenceSettings | None = group(threshold=("fixed", "mean"))


@objective("teacher", labels="maps", wraps="student", features=True, settings=TeacherSettings)
def teacher(task: Task, settings: TeacherSettings) -> "Learner":
    """Learn labels by another objective, and all other pixels from the running mean of the network itself."""
    from stages.training.learners.teacher import TeacherLearner

    return TeacherLearner(
        task,
        lambda own: LABEL_OBJECTIVES[settings.student](own, settings.of_student),
        momentum=settings.teacher_momentum,
        taught_from=settings.taught_from,
        taught_weight=settings.taught_weight,
        unlabelled_split=settings.unlabelled_split,
        cutmix=settings.cutmix,
        feature_dropout=settings.feature_dropout,
        threshold=settings.threshold,
        confidence=1.0 if settings.believed is None else settings.believed.confidence,
    )
