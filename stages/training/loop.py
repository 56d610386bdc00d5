"""The training loop: steps, schedule, validation, checkpoints, signals, ranks. It is the same for all learners."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
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
from stages.training.loss_sums import LossSums, all_finite
from stages.training.schedules import build_schedule

HistoryRow = dict[str, float]
MEETING_SECONDS = 1.0
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

    ``others`` are the last weights of the learner's other modules by name, without those that only training needs.
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
        self.met_at, self.met_time, self.meets_at = self.state.step, self.saved_at, self.state.step

    def run(self, after_epoch: Callable[[list[HistoryRow]], None] = lambda history: None) -> Trained:
        """Trains to the end, or saves and raises Stopped on a stop signal."""
        steps = self.settings.optimisation.epochs * self.learner.steps_per_epoch
        with stop_on_signal() as stop, Progress("training", steps) as bar, ExitStack() as stack:
            batches = self.learner.batches(self.state.step)
            stack.callback(getattr(batches, "close", lambda: None))  # loader processes end with it
            bar.advance(self.state.step)
            while not self.state.finished:
                self.train_epoch(batches, stop, bar)
                self.end_epoch()
                if self.ranks.is_main:
                    after_epoch(self.state.history)
                stopping, due = self.agreed(stop)
                if self.state.finished or stopping or due:
                    self.save()
                if stopping and not self.state.finished:
                    raise self.stopped()
        network = self.learner.modules["network"]
        left_out = (MAIN, *self.learner.training_only)
        others = {name: each.state_dict() for name, each in self.learner.modules.items() if name not in left_out}
        return Trained(network.state_dict(), self.best, self.state.best_epoch, self.state.history, others)

    def train_epoch(self, batches: Iterator[Any], stop: StopRequest, bar: Progress) -> None:
        """The remaining steps of the current epoch."""
        learner, state = self.learner, self.state
        learner.train()
        began, images, loss = time.monotonic(), 0, None
        sums = LossSums(state.loss_sums)
        last = (state.step // learner.steps_per_epoch + 1) * learner.steps_per_epoch
        while state.step < last:
            try:
                batch = next(batches)
            except StageFailed as error:  # a loader process died between two steps, of which nothing is lost
                self.save_alone(sums)
                raise StageFailed(f"{error} Run the same command to continue.") from error
            torch.manual_seed(torch_seed(self.settings.seed, "dropout", state.step, self.ranks.rank))
            for name, losses in learner.updates(batch):
                self.descend(name, losses["loss"])
                loss = losses["loss"].detach() if name == MAIN else loss
                prefix = "" if name == MAIN else f"{name}_"
                sums.add(((prefix + part, value) for part, value in losses.items()), state.step)
                state.updates[name] = state.updates.get(name, 0) + 1
            learner.end_step()
            state.step += 1
            images += learner.images_in(batch)
            state.images_per_second = images / (time.monotonic() - began)
            bar.advance(note=self.note(loss) if bar.shows() else None)
            if state.step == last or state.step < self.meets_at:
                continue  # `end_epoch` must run first: training resumed from a state saved here would skip it
            stopping, due = self.agreed(stop)
            if stopping or due:
                self.read(sums)
                self.save()
            if stopping:
                raise self.stopped()
        self.read(sums)

    def read(self, sums: LossSums) -> None:
        """Takes the sums into the state; StageFailed if one is not finite, so that no such state is saved."""
        self.state.loss_sums = sums.read(self.ranks)
        if all_finite(self.state.loss_sums):
            return
        step = sums.failed_step()
        told = self.ranks.gather(None if step is None else (step, self.learner.contents(step)))
        step, _ = min(each for each in told if each is not None)
        contents = "; ".join(text for first, text in filter(None, told) if first == step)
        remedy = (
            "No step was taken before, so check these images, their labels and --class-weights."
            if step == 0
            else "Lower the learning rates. If it fails at the same images again, check them and their labels."
        )
        raise StageFailed(f"The loss of step {step + 1} is not finite: {contents}. {remedy}")

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

    def agreed(self, stop: StopRequest) -> tuple[bool, bool]:
        """Whether any process was asked to stop, and whether a checkpoint is due by the main process's clock.

        All processes get the same answer after the same step. They meet about once a second, not at every step.
        """
        seconds, now = self.settings.execution.checkpoint_seconds, time.monotonic()
        due = now - self.saved_at > seconds
        if self.ranks.size == 1:
            return bool(stop), due
        steps = int((self.state.step - self.met_at) * min(seconds, MEETING_SECONDS) / max(now - self.met_time, 1e-9))
        own = [int(due), max(1, steps)] if self.ranks.is_main else [0, 0]
        stops, due, pause = self.ranks.sum(torch.tensor([int(bool(stop)), *own])).tolist()
        self.met_at, self.met_time, self.meets_at = self.state.step, now, self.state.step + pause
        return stops > 0, due > 0

    def save_alone(self, sums: LossSums) -> None:
        """Saves, unless there are other processes, which are still in the step."""
        if self.ranks.size == 1:
            self.read(sums)
            self.save()

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
