"""One network learning from samples: what all learners share except their losses."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stages.artifacts.labels import Labels
from stages.evaluating.confusion import confusion_matrix, mean_iou, pixel_accuracy
from stages.evaluating.views import EvaluationView
from stages.networks.norms import freeze_backbone, freeze_norm, rest_backbone
from stages.networks.predictor import ImageBatch, Images, Predictor, by_size, image_batches, normalise
from stages.pixels.void import VOID
from stages.runtime.devices import forward_precision, tune_convolutions
from stages.runtime.errors import BadInput
from stages.runtime.processes import core_count
from stages.training.colour import augment_colour
from stages.training.compiling import compiled
from stages.training.features import Head, open_features
from stages.training.optimisers import build_optimiser, learned_of, parameter_groups
from stages.training.samples.loading import load_batches
from stages.training.samples.maps import Batch, TrainingSamples, epoch_batches, place_in_turns
from stages.training.sharing import average_over_ranks, running_statistics, share_normalisation
from stages.training.task import Task


def label_weights(kind: str, counts: np.ndarray) -> np.ndarray | None:
    """(C,) f32 weights from (C,) label counts: complement = 1 - share; inverse = 1 / share scaled to mean 1 over the
    classes present. An absent class has weight 1, and so has the only one. None for kind none."""
    if kind == "none":
        return None
    share = counts / counts.sum()
    if kind == "complement":
        return np.where((counts > 0) & (counts < counts.sum()), 1 - share, 1.0).astype(np.float32)
    inverse = np.divide(1.0, share, out=np.zeros(len(counts)), where=counts > 0)
    return np.where(counts > 0, inverse / inverse[counts > 0].mean(), 1.0).astype(np.float32)


def label_counts(labels: Labels, outputs: int, void: int = VOID) -> np.ndarray:
    """(C,) i64 labelled pixels per class; ``void`` is the label of void, an output's number if void is learned."""
    counts = np.zeros(256, dtype=np.int64)
    for image in labels.labelled_ids(void):
        counts += np.bincount(labels.label_map(image, void).ravel(), minlength=256)
    return counts[:outputs]


class NetworkLearner:
    """One segmentation network learning from labelled pixels; a subclass adds `losses`.

    ``classes`` are those that validation counts, ``weights`` the class weights of the loss, (C,) f32 or None,
    ``evaluated`` the network that validation sees.
    """

    criterion, lower_is_better = "miou", False
    training_only: tuple[str, ...] = ()
    samples_kind: ClassVar[type[TrainingSamples]] = TrainingSamples
    fewest_images: ClassVar[int] = 2
    """Labelled images that each process needs."""

    def __init__(self, task: Task, class_weights: str = "none"):
        self.settings, self.device, self.ranks = task.settings, task.device, task.ranks
        self.network, self.modules = task.network, {"network": task.network}
        self.evaluated = task.network
        self.frozen = self.settings.optimisation.frozen
        if self.frozen is not None:
            freeze_backbone(self.network)
        self.mean, self.std = task.mean, task.std
        self.samples = self.open_samples(task)
        if len(self.samples) < self.fewest_images * self.ranks.size:
            raise BadInput(
                f"{task.labels.path} has labels in {len(self.samples)} images, but batch normalisation needs at least "
                f"{self.fewest_images} per process. Annotate more images."
            )
        self.dataset, self.labels = task.dataset, task.labels
        self.classes = len(self.dataset.classes)
        self.validates = self.can_validate()
        self.validated = self.validation_images()
        self.label_counts = self.count_labels(self.labels)
        weights = label_weights(class_weights, self.label_counts)
        self.weights = None if weights is None else torch.from_numpy(weights).to(self.device)
        self.steps_per_epoch = self.settings.optimisation.steps_per_epoch or len(self.epoch(0))
        self.features = open_features(task, self.samples) if self.frozen is not None and self.frozen.views else None
        self.forward = self.trained() if self.ranks.size == 1 else self.wrapped(self.trained())
        if self.settings.execution.compile:
            self.forward = compiled(self.forward, self.device)
        default_workers = 0 if self.device.type == "cpu" else min(8, core_count())
        workers = self.settings.execution.workers
        self.workers = default_workers if workers is None else workers

    def open_samples(self, task: Task, **more: Any) -> TrainingSamples:
        """The training samples; ``more`` are further arguments of their class."""
        settings = task.settings
        given = task.dataset, task.labels, settings.augmentation, task.mean, settings.seed, settings.learn_void
        if self.frozen is not None and self.frozen.views:
            more |= {"views": self.frozen.views}
        return self.samples_kind(*given, **more)

    def wrapped(self, module: nn.Module) -> nn.Module:
        """``module`` wrapped so that its gradients are averaged over the processes."""
        from torch.nn.parallel import DistributedDataParallel

        share_normalisation(module, self.device)
        places = None if self.device.type == "cpu" else [torch.cuda.current_device()]
        return DistributedDataParallel(module, device_ids=places, broadcast_buffers=False)  # see end_step

    def can_validate(self) -> bool:
        return self.dataset.has_masks(self.settings.validation.validation_split)

    def validation_images(self) -> Images:
        """The images and masks that validation sees; BadInput if the split is not kept at their size."""
        how = self.settings.validation
        if not self.validates:
            return self.dataset
        return EvaluationView(self.dataset, how.validation_split, how.validate_at, how.validate_crop)

    def count_labels(self, labels: Labels) -> np.ndarray:
        """(C,) i64 labels per output."""
        return label_counts(labels, self.classes + self.settings.learn_void, self.samples.void)

    def named_classes(self) -> np.ndarray:
        """(C,) bool, per output whether an answer names it."""
        return self.label_counts > 0

    def counts(self) -> dict[str, Any]:
        return {"labelled_pixels": int(self.label_counts.sum()), "labelled_images": len(self.samples)}

    def trained(self) -> nn.Module:
        """The part of the network whose parameters are learned."""
        return self.network if self.features is None else Head(self.features.network)

    def train(self) -> None:
        tune_convolutions([self.samples.crop])
        self.network.train()
        if self.frozen is not None:
            rest_backbone(self.network)
        if self.settings.optimisation.freeze_norm:
            freeze_norm(self.network)

    def optimisers(self) -> dict[str, Optimizer]:
        return {"network": build_optimiser(self.settings.optimisation, self.parameter_groups(), self.device)}

    def share_gradients(self, name: str) -> None:
        """Nothing to do: the network is wrapped for several processes."""

    def end_step(self) -> None:
        """Averages the running statistics of batch normalisation, so that all processes validate what is saved."""
        average_over_ranks(running_statistics(self.network), self.ranks)

    def parameter_groups(self) -> list[dict[str, Any]]:
        groups = parameter_groups(self.settings.optimisation, self.network)
        return groups if self.frozen is None else learned_of(groups)

    def epoch(self, number: int) -> list[np.ndarray]:
        """The batches of an epoch, as sample indices over all processes."""
        batch = self.settings.optimisation.batch
        return epoch_batches(len(self.samples), batch, self.settings.seed, number, self.ranks.size)

    def batches(self, first: int) -> Iterator[Any]:
        return load_batches(self.samples, self.keys(first), self.workers, self.device.type == "cuda")

    def keys(self, first: int) -> Iterator[list[Any]]:
        """The samples of this process's share of each batch from step ``first`` on."""
        by_epoch = self.settings.optimisation.steps_per_epoch is None
        return self.keys_of_epochs(first) if by_epoch else self.keys_of_steps(first)

    def keys_of_epochs(self, first: int) -> Iterator[list[tuple[int, int]]]:
        """(sample, epoch) pairs per step: in each epoch every sample once."""
        for epoch in range(first // self.steps_per_epoch, self.settings.optimisation.epochs):
            start = max(0, first - epoch * self.steps_per_epoch)
            for batch in self.epoch(epoch)[start:]:
                yield [(int(index), epoch) for index in batch[self.ranks.rank :: self.ranks.size]]

    def keys_of_steps(self, first: int) -> Iterator[list[tuple[int, int]]]:
        """(sample, turn) pairs per step: the samples repeated, each turn in a new random order."""
        count, batch = len(self.samples), self.settings.optimisation.batch
        for step in range(first, self.settings.optimisation.epochs * self.steps_per_epoch):
            places = range(step * batch + self.ranks.rank, (step + 1) * batch, self.ranks.size)
            yield [place_in_turns(place, count, self.settings.seed) for place in places]

    def contents(self, step: int) -> str:
        keys = next(self.keys(step))
        names = self.class_names()
        classes = ", ".join(names[number] for number in self.samples.classes_in(self.samples.batch(keys)))
        images = ", ".join(dict.fromkeys(map(self.samples.image_of, keys)))
        return f"images {images} with labels of {classes or 'no class'}"

    def class_names(self) -> list[str]:
        """The names of the classes that labels may name."""
        return [*self.dataset.classes, "void"]

    def images_in(self, batch: Any) -> int:
        return len(batch.images) * self.ranks.size

    def updates(self, batch: Any) -> Iterator[tuple[str, dict[str, Tensor]]]:
        labelled = batch.labelled
        if self.ranks.size > 1:  # all processes must skip a step together; on the CPU, so that none waits for its GPU
            labelled = int(self.ranks.sum(torch.tensor(labelled)))
        if labelled == 0:
            return
        yield "network", self.learn(self.augmented(batch), batch) if self.features is None else self.learn_kept(batch)

    def augmented(self, batch: Batch, places: list[int] | None = None) -> Tensor:
        """(n,3,H,W) f32 images of ``batch`` in [0,1], all or those at ``places``, augmented in colour."""
        images, colours = batch.images, batch.colours
        if places is not None:
            images, colours = images[places], [colours[place] for place in places]
        return augment_colour(images.to(self.device, non_blocking=True).float() / 255, colours)

    def learn(self, images: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The losses of (B,3,H,W) f32 images in [0,1], augmented."""
        with self.precise():
            logits = self.forward(self.normalised(images))
        return self.losses(logits, batch)

    def learn_kept(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of the fixed views in ``batch``, from features of the backbone that are computed once."""
        features = self.kept_features(batch)
        with self.precise():
            logits = self.forward(features, batch.images.shape[-2:])
        return self.losses(logits, batch)

    def kept_features(self, batch: Batch) -> tuple[Tensor, ...]:
        """The features (n,...) of the fixed views in ``batch``."""
        assert self.features is not None
        return self.features.of(batch.views, lambda places: self.normalised(self.augmented(batch, places)))

    def precise(self) -> Any:
        """The context of a forward pass."""
        return forward_precision(self.settings.execution.precision, self.device)

    def normalised(self, images: Tensor) -> Tensor:
        return normalise(images, self.mean, self.std).contiguous(memory_format=torch.channels_last)

    def losses(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The ``loss`` of (B,C,H,W) logits, and any other scalars for the history.

        With several processes each returns its own; the gradients are averaged over them.
        """
        raise NotImplementedError

    def validate(self) -> dict[str, float] | None:
        """mIoU and accuracy on the validation split, one scale."""
        if not self.validates:
            return None
        predictor = self.predictor()
        confusion = torch.zeros(self.classes, self.classes, dtype=torch.int64, device=self.device)
        for batch in image_batches(self.validated, self.validation_ids(), self.settings.optimisation.batch, masks=True):
            assert batch.masks is not None
            predicted = self.predicted(predictor, batch)
            confusion += confusion_matrix(batch.masks.to(self.device), predicted, self.classes)
        matrix = self.ranks.sum(confusion).cpu().numpy()
        undefined = self.settings.validation.validate_undefined
        return {"miou": mean_iou(matrix, undefined), "accuracy": pixel_accuracy(matrix)}

    def predicted(self, predictor: Predictor, batch: ImageBatch) -> Tensor:
        """(B,H,W) i64 classes of validation images, from kept features if there are any."""
        if self.features is None:
            return predictor.classes(batch.images, self.classes)
        how = self.settings.validation
        names = [f"{image}/{how.validate_at}/{how.validate_crop}" for image in batch.ids]
        features = self.features.of(names, lambda places: predictor.prepared(batch.images[places]))
        size = batch.images.shape[-2], batch.images.shape[-1]
        return predictor.logits_of(features, size)[:, : self.classes].argmax(1)

    def validation_ids(self) -> Sequence[str]:
        """This process's share of the images of the validation split, by size, so that those of one go together."""
        return by_size(self.ids_of_split()[self.ranks.rank :: self.ranks.size], self.validated.sizes)

    def ids_of_split(self) -> list[str]:
        return self.dataset.ids(self.settings.validation.validation_split)

    def predictor(self) -> Predictor:
        """The current network in eval mode; `train` returns it to training mode."""
        self.evaluated.eval()
        return Predictor(self.evaluated, self.mean, self.std, self.device, self.settings.execution.precision)
