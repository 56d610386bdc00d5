"""Objectives: what a training learns from and minimises, one light file each.

A file registers a function that makes a learner; torch is imported inside it:

    from stages.settings.base import PartSettings
    from stages.training.objectives import objective

    class SquaredSettings(PartSettings):
        steepness: float = Field(1.0, gt=0, description="Factor on the logits.")

    @objective("squared", labels="maps", settings=SquaredSettings)
    def squared(task, settings):
        "Learn one class per pixel by squared errors of the probabilities."
        from stages.training.learners.network import NetworkLearner

        class SquaredLearner(NetworkLearner):
            def losses(self, logits, batch):
                ...
                return {"loss": value}

        return SquaredLearner(task)

``task`` is a `stages.training.task.Task`, ``settings`` the objective's own settings (None if it has none). The
function returns a `stages.training.learner.Learner`; derive it from a class in `stages.training.learners`.

The decorator says what the objective needs: ``labels`` (what it learns from: maps, class-sets, masks or image-classes,
see `stages.commands.train.require_labels`), ``predicts`` (classes of pixels or images), ``start`` (it needs a model to
start from), ``support`` (it trains support heads beside the network of that model, which does not change), ``wraps``
(the setting that names another objective, which reads the labels instead) and ``features`` (``--freeze backbone`` may
give its learner features of fixed views in the place of images; a learner that only adds ``losses`` to `NetworkLearner`
can).
"""

from stages.runtime.parts import OBJECTIVES

objective = OBJECTIVES.register
