"""The interface between the training loop and what is learned."""

from collections.abc import Iterator
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer


class Learner(Protocol):
    """The networks, data and losses of one training with an objective.

    The loop saves and restores the state of every module in ``modules``, and keeps that of ``modules["network"]`` as
    last and best weights: best by the validation number ``criterion``.
    """

    modules: dict[str, nn.Module]
    training_only: tuple[str, ...]
    """Names of modules that a checkpoint holds, but not the model."""
    steps_per_epoch: int
    criterion: str
    lower_is_better: bool
    validates: bool
    """Whether there is anything to validate on."""

    def train(self) -> None:
        """Sets the modules to training mode, except those that do not learn."""

    def optimisers(self) -> dict[str, Optimizer]:
        """The optimisers by name, `network` among them; the ``lr`` of their groups is the peak of the schedule."""

    def share_gradients(self, name: str) -> None:
        """Averages the gradients of an optimiser over the processes, unless its wrapped network does."""

    def end_step(self) -> None:
        """What follows the optimiser steps of a batch: the processes average what the modules measured of it."""

    def batches(self, first: int) -> Iterator[Any]:
        """This process's batches from step ``first`` of the training on, over all epochs."""

    def updates(self, batch: Any) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """The optimiser steps of one batch: optimiser name and named losses, of which ``loss`` is minimised.

        Yields nothing for a batch without labels; the parameters then stay as they are.
        """

    def contents(self, step: int) -> str:
        """The images of this process's batch of a step and the classes of their labels, for messages."""

    def images_in(self, batch: Any) -> int:
        """Images of the batch over all processes, for the progress display."""

    def validate(self) -> dict[str, float] | None:
        """Validation numbers, ``criterion`` among them; None if there is nothing to validate on."""

    def counts(self) -> dict[str, Any]:
        """Counts for the header of the model as JSON values: ``labelled_pixels``, ``labelled_images`` and others."""
