"""Measures the training steps of a process: operations, arithmetic, memory, time."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from stages.training.loop import Training
from tests.reference.costs import GIB, step_key


@dataclass
class StepCost:
    """One training step as measured on a CPU in float32; bytes in GiB.

    ``flops`` are those of the forward and the backward pass, an addition and a multiplication counted as two.
    ``operations`` are the calls of torch's kernels, without those that load the batch and the optimiser's, which a GPU
    joins into a few. ``saved`` is what the forward pass
    keeps for the backward pass, ``fixed`` parameters, gradients and the state of the optimisers, ``resident`` by how
    much the process grew during the step at most.
    """

    batch: int
    flops: float = 0.0
    operations: int = 0
    saved: float = 0.0
    fixed: float = 0.0
    resident: float = 0.0
    seconds: float = 0.0


def convolution_backward_flops(
    grad: Any, image: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool,
    output_padding: Any, groups: int, wanted: Any, out_shape: Any = None,
) -> int:  # fmt: skip
    """Those of a backward pass from shapes: as many for each wanted gradient as for the forward pass.

    torch's own formula takes the gradient of a grouped convolution's weights for that of a dense one.
    """
    places = image if transposed else grad
    forward = 2 * prod(weight) * places[0] * prod(places[2:])
    return forward * sum(map(bool, wanted[:2]))


def flop_counter() -> FlopCounterMode:
    """Counts floating-point operations, grouped convolutions rightly."""
    own = {torch.ops.aten.convolution_backward: convolution_backward_flops}
    return FlopCounterMode(display=False, custom_mapping=own)


class OperationCounter(TorchDispatchMode):
    """Counts the calls of kernels unless ``paused``; views are none."""

    count = 0
    paused = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not (self.paused or getattr(func, "is_view", False))
        return func(*args, **(kwargs or {}))

    def pause(self, *arguments: Any) -> None:
        self.paused += 1

    def resume(self, *arguments: Any) -> None:
        self.paused -= 1

    def outside(self, batches: Iterator[Any]) -> Iterator[Any]:
        """``batches``, loaded without being counted."""
        while True:
            self.pause()
            batch = next(batches, None)
            self.resume()
            if batch is None:
                return
            yield batch


class SavedBytes:
    """The bytes of what is saved for the backward pass, each storage once, parameters left out."""

    def __init__(self, learner: Any):
        self.known = {
            parameter.untyped_storage().data_ptr()
            for module in learner.modules.values()
            for parameter in module.parameters()
        }
        self.storages: dict[int, int] = {}
        self.most = 0

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.known:
            self.storages[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # the tensor itself would refer to its own graph

    def end(self) -> None:
        """The backward pass begins: what was saved until now is all there is."""
        self.most = max(self.most, sum(self.storages.values()))
        self.storages = {}


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def growth(cost: StepCost) -> Iterator[None]:
    """Writes into ``cost`` how much this process grows at most, looking every 5 ms."""
    before, most, done = resident_bytes(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.005):
            most = max(most, resident_bytes() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        cost.resident = most / GIB


@contextmanager
def measured_steps() -> Iterator[dict[str, dict[str, Any]]]:
    """Trainings of one step in this block are measured: key -> `StepCost` as plain values."""
    found: dict[str, dict[str, Any]] = {}
    train_epoch, descend = Training.train_epoch, Training.descend

    def measured(self: Training, batches: Iterator[Any], *arguments: Any) -> None:
        learner: Any = self.learner
        saved, cost = SavedBytes(learner), StepCost(self.settings.optimisation.batch)
        self.saved_bytes = saved  # type: ignore[attr-defined]
        flops, operations = flop_counter(), OperationCounter()
        hooks = torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor)
        before = [optimiser.register_step_pre_hook(operations.pause) for optimiser in self.optimisers.values()]
        after = [optimiser.register_step_post_hook(operations.resume) for optimiser in self.optimisers.values()]
        began = time.perf_counter()
        with growth(cost), hooks, operations, flops:
            train_epoch(self, operations.outside(batches), *arguments)
        for handle in (*before, *after):
            handle.remove()
        cost.seconds = time.perf_counter() - began
        cost.flops, cost.operations, cost.saved = float(flops.get_total_flops()), operations.count, saved.most / GIB
        cost.fixed = fixed_bytes(self) / GIB
        size = next(iter(learner.dataset.sizes.values()))
        of_images = self.settings.objective == "image-classes"
        classes = learner.labels.image_classes if of_images else learner.dataset.classes
        outputs = len(classes) + self.settings.learn_void
        found.setdefault(step_key(self.settings, outputs, size), rounded(asdict(cost)))

    def watched(self: Training, name: str, loss: torch.Tensor) -> None:
        self.saved_bytes.end()  # type: ignore[attr-defined]
        descend(self, name, loss)

    Training.train_epoch, Training.descend = measured, watched  # type: ignore[method-assign]
    try:
        yield found
    finally:
        Training.train_epoch, Training.descend = train_epoch, descend  # type: ignore[method-assign]


def fixed_bytes(training: Training) -> int:
    """Parameters, gradients, buffers and the state of the optimisers."""
    total = 0
    for module in training.learner.modules.values():
        for tensor in (*module.parameters(), *module.buffers()):
            total += tensor.nbytes + (0 if getattr(tensor, "grad", None) is None else tensor.nbytes)
    for optimiser in training.optimisers.values():
        for state in optimiser.state.values():
            total += sum(value.nbytes for value in state.values() if isinstance(value, torch.Tensor))
    return total


def rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in values.items()}
