"""The training loop: steps, schedule, validation, checkpoints, signals, ranks. It is the same for all learners."""

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from stages.runtime.console import Progress
from stages.runtime.errors import StageFailed, Stopped
from stages.runtime.randomness import torch_seed
from stages.runtime.ranks import Ranks
from stages.runtime.signals import StopRequest, stop_on_signal
from stages.settings.train import TrainSettings
from stages.training.checkpoints import Checkpoints
from stages.training.learner import Learner
from stages.training.schedules import build_schedule

HistoryRow = dict[str, float]
MAIN = "network"  # the optimiser whose losses are columns of the history without a prefix


@dataclass
class State:
    """The progress of a training; a checkpoint holds it with the modules and optimisers."""

    step: int = 0
    loss_sums: dict[str, float] = field(default_factory=dict)
    updates: dict[str, int] = field(default_factory=dict)  # of each optimiser
    images_per_second: float = 0.0
    best_epoch: int = 0  # from 1; 0 = never validated
    best_value: float = math.nan  # of the learner's criterion
    without_better: int = 0
    finished: bool = False
    history: list[HistoryRow] = field(default_factory=list)


@dataclass(frozen=True)
class Trained:
    """The result of a training: last and best weights (best None without validation) and one row per epoch.

    ``others`` are the last weights of the learner's other modules by name.
    """

    last: dict[str, Tensor]
    best: dict[str, Tensor] | None
    best_epoch: int
    history: list[HistoryRow]
    others: dict[str, dict[str, Tensor]]


def criterion_text(criterion: str, value: float) -> str:
    """A validation number for messages: mIoU in %, any other with 4 decimals."""
    return f"mIoU {100 * value:.2f}" if criterion == "miou" else f"{criterion} {value:.4f}"


class Training:
    """One training, from its start or last checkpoint to its end.

    Each random draw depends on (seed, epoch, image) or (seed, step), so a run that continues from a checkpoint takes
    the same steps as one that was never stopped; on a CPU it ends with the same bytes.
    """

    def __init__(self, learner: Learner, settings: TrainSettings, checkpoints: Checkpoints, ranks: Ranks):
        self.learner, self.settings, self.checkpoints, self.ranks = learner, settings, checkpoints, ranks
        self.optimisers = learner.optimisers()
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["peak"] = group["lr"]
        self.factor = build_schedule(settings.optimisation, learner.steps_per_epoch)
        self.state = State()
        self.best: dict[str, Tensor] | None = None
        self.saved_at = time.monotonic()
        self.restore()

    def run(self, after_epoch: Callable[[list[HistoryRow]], None] = lambda history: None) -> Trained:
        """Trains to the end, or saves and raises Stopped on a stop signal."""
        steps = self.settings.optimisation.epochs * self.learner.steps_per_epoch
        batches = self.learner.batches(self.state.step)
        with stop_on_signal() as stop, Progress("training", steps) as bar:
            bar.advance(self.state.step)
            while not self.state.finished:
                self.train_epoch(batches, stop, bar)
                self.end_epoch()
                if self.ranks.is_main:
                    after_epoch(self.state.history)
                stopping = self.agreed(bool(stop))
                if self.state.finished or stopping or self.checkpoint_due():
                    self.save()
                if stopping and not self.state.finished:
                    raise self.stopped()
        network = self.learner.modules["network"]
        others = {name: module.state_dict() for name, module in self.learner.modules.items() if name != MAIN}
        return Trained(network.state_dict(), self.best, self.state.best_epoch, self.state.history, others)

    def train_epoch(self, batches: Iterator[Any], stop: StopRequest, bar: Progress) -> None:
        """The remaining steps of the current epoch."""
        learner, state = self.learner, self.state
        learner.train()
        began, images, loss = time.monotonic(), 0, None
        # the sums stay on the device: reading them would block until it is done
        totals = {name: torch.tensor(value, dtype=torch.float64) for name, value in state.loss_sums.items()}
        for batch in itertools.islice(batches, learner.steps_per_epoch - state.step % learner.steps_per_epoch):
            torch.manual_seed(torch_seed(self.settings.seed, "dropout", state.step, self.ranks.rank))
            for name, losses in learner.updates(batch):
                self.descend(name, losses["loss"])
                loss = losses["loss"].detach() if name == MAIN else loss
                for part, value in losses.items():
                    column = part if name == MAIN else f"{name}_{part}"
                    total = totals.get(column, torch.zeros((), dtype=torch.float64))
                    totals[column] = total.to(value.device) + value.detach()
                state.updates[name] = state.updates.get(name, 0) + 1
            state.step += 1
            images += learner.images_in(batch)
            state.images_per_second = images / (time.monotonic() - began)
            bar.advance(note=self.note(loss) if bar.shows() else None)
            if state.step % learner.steps_per_epoch == 0:
                continue  # `end_epoch` must run first: training resumed from a state saved here would skip it
            stopping = self.agreed(bool(stop))
            if stopping or self.checkpoint_due():
                state.loss_sums = self.over_ranks(totals)
                self.save()
            if stopping:
                raise self.stopped()
        state.loss_sums = self.over_ranks(totals)

    def over_ranks(self, totals: dict[str, Tensor]) -> dict[str, float]:
        """Mean over the processes of their sums."""
        device = next(self.learner.modules["network"].parameters()).device
        return {name: float(self.ranks.sum(total.to(device))) / self.ranks.size for name, total in totals.items()}

    def stopped(self) -> Stopped:
        return Stopped(f"stopped and saved after step {self.state.step}; run the same command to continue")

    def descend(self, name: str, loss: Tensor) -> None:
        """One step of an optimiser at the scheduled rate."""
        optimiser = self.optimisers[name]
        for group in optimiser.param_groups:
            group["lr"] = max(group["peak"] * self.factor(self.state.step), self.settings.optimisation.lr_floor)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.learner.share_gradients(name)
        optimiser.step()

    def end_epoch(self) -> None:
        """Validates if it is due, keeps the best weights, decides whether the training is finished."""
        state, validation = self.state, self.settings.validation
        epoch = state.step // self.learner.steps_per_epoch
        row: HistoryRow = {
            "epoch": epoch,
            "step": state.step,
            "lr_factor": self.factor(state.step - 1),
            "loss": 0.0,  # for an epoch without labels
            **{name: value / max(self.updates_of(name), 1) for name, value in state.loss_sums.items()},
            "updates": state.updates.get(MAIN, 0),
            "images_per_second": round(state.images_per_second, 2),
        }
        if not math.isfinite(row["loss"]):
            raise StageFailed(f"The loss of epoch {epoch} is {row['loss']}. Lower the learning rates and train again.")
        state.loss_sums, state.updates = {}, {}
        state.finished = epoch >= self.settings.optimisation.epochs
        if epoch % validation.validate_every == 0 or state.finished:
            result = self.learner.validate()
            if result is not None:
                row |= {f"val_{name}": value for name, value in result.items()}
                value = result[self.learner.criterion]
                if self.better(value):
                    state.best_value, state.best_epoch, state.without_better = value, epoch, 0
                    network = self.learner.modules["network"]
                    self.best = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
                else:
                    state.without_better += 1
                    state.finished |= 0 < validation.patience <= state.without_better
        state.history.append(row)

    def updates_of(self, column: str) -> int:
        """Steps in this epoch of the optimiser that a column of the history belongs to."""
        name = next((name for name in self.optimisers if column.startswith(f"{name}_")), MAIN)
        return self.state.updates.get(name, 0)

    def better(self, value: float) -> bool:
        """Whether a validation is the best so far; NaN never is."""
        best = self.state.best_value
        if math.isnan(best):
            return not math.isnan(value)
        return value < best if self.learner.lower_is_better else value > best

    def note(self, loss: Tensor | None) -> str:
        """The text of the progress display beside the steps."""
        parts = [] if loss is None else [f"loss {float(loss):.3f}"]
        if self.state.best_epoch:
            parts.append(f"best val {criterion_text(self.learner.criterion, self.state.best_value)}")
        return ", ".join([*parts, f"{self.state.images_per_second:.1f} images/s"])

    def agreed(self, mine: bool) -> bool:
        """Whether ``mine`` is true in any process, so that all stop or save after the same step."""
        if self.ranks.size == 1:
            return mine
        device = next(self.learner.modules["network"].parameters()).device
        return bool(self.ranks.sum(torch.tensor(int(mine), device=device)))

    def checkpoint_due(self) -> bool:
        """Whether it is time for a checkpoint, by the clock of the main process."""
        return bool(
            self.agreed(
                self.ranks.is_main and time.monotonic() - self.saved_at > self.settings.execution.checkpoint_seconds
            )
        )

    def save(self) -> None:
        if self.ranks.is_main:
            state = {
                "modules": {name: module.state_dict() for name, module in self.learner.modules.items()},
                "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
                "progress": asdict(self.state),
                "best": self.best,
            }
            self.checkpoints.save(self.state.step, state)
        self.ranks.barrier()
        self.saved_at = time.monotonic()

    def restore(self) -> None:
        saved = self.checkpoints.load()
        if saved is None:
            return
        for name, module in self.learner.modules.items():
            module.load_state_dict(saved["modules"][name])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(saved["optimisers"][name])
        self.state, self.best = State(**saved["progress"]), saved["best"]
