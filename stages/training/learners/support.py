"""Support heads learning beside a frozen segmentation network (spec madbal.md 4.3)."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.networks.dropout import dropout_modules
from stages.networks.layers import pad_to
from stages.networks.predictor import by_size, image_batches
from stages.networks.support import SupportMaps
from stages.pixels.edges import edge_mask
from stages.pixels.grids import map_on_grid
from stages.pixels.void import VOID
from stages.runtime.console import Progress
from stages.runtime.devices import tune_convolutions
from stages.training.learners.network import NetworkLearner
from stages.training.learners.support_losses import (
    area_loss,
    class_thresholds,
    loss_per_class,
    lossy_targets,
    side_losses,
    sum_of_means,
)
from stages.training.samples.maps import Batch
from stages.training.task import Task


class SupportLearner(NetworkLearner):
    """Side classifiers learn the labels; the lossiness head learns where the frozen network's loss is high.

    High is above the mean loss of the label's class over the labelled pixels of all images, without augmentation. The
    mixing has no loss of its own: it learns through the lossiness. Validation measures the loss of the lossiness head.
    """

    criterion, lower_is_better = "area", True

    def __init__(
        self,
        task: Task,
        side_weights: tuple[float, float, float],
        side_weight: float,
        frozen_dropout: bool,
        class_weights: str,
    ):
        super().__init__(task, class_weights)
        self.side_weights, self.side_weight, self.frozen_dropout = side_weights, side_weight, frozen_dropout
        self.thresholds = self.find_thresholds()

    def counts(self) -> dict[str, Any]:
        """Also the thresholds by class; None for a class without labels."""
        means = zip(self.dataset.classes, self.thresholds.tolist(), strict=False)
        return super().counts() | {
            "class_thresholds": {name: None if math.isinf(value) else value for name, value in means}
        }

    def trained(self) -> nn.Module:
        return self.network.get_submodule("support")

    def train(self) -> None:
        tune_convolutions([self.samples.crop])
        self.network.eval()
        self.trained().train()
        if self.frozen_dropout:
            for module in dropout_modules(self.network):
                module.train()

    def parameter_groups(self) -> list[dict[str, Any]]:
        learned = [parameter for parameter in self.trained().parameters() if parameter.requires_grad]
        for parameter in self.network.parameters():
            parameter.requires_grad_(False)
        for parameter in learned:
            parameter.requires_grad_(True)
        return [{"params": learned, "lr": self.settings.optimisation.head_lr}]

    def find_thresholds(self) -> Tensor:
        """(C,) f64 mean loss per class; infinite for a class without labels."""
        outputs = len(self.label_counts)
        sums = torch.zeros(outputs, dtype=torch.float64, device=self.device)
        counts = torch.zeros(outputs, dtype=torch.int64, device=self.device)
        predictor = self.predictor()
        mine = by_size(self.samples.ids[self.ranks.rank :: self.ranks.size], self.dataset.sizes)
        with Progress("measuring losses per class", len(mine)) as bar:
            for batch in image_batches(self.dataset, mine, self.settings.optimisation.batch):
                size = (batch.images.shape[-2], batch.images.shape[-1])
                maps = [map_on_grid(self.labels.label_map(image, self.samples.void), size) for image in batch.ids]
                labels = torch.from_numpy(np.stack(maps)).to(self.device)
                found = loss_per_class(predictor.logits(batch.images), labels, outputs)
                sums, counts = sums + found[0], counts + found[1]
                bar.advance(len(batch.ids))
        return class_thresholds(self.ranks.sum(sums), self.ranks.sum(counts))

    def learn(self, images: Tensor, batch: Batch) -> dict[str, Tensor]:
        labels = batch.labels.to(self.device, non_blocking=True)
        height, width = images.shape[-2:]
        padded = pad_to(self.normalised(images), self.network.pad_multiple)  # type: ignore[arg-type]
        size = (padded.shape[-2], padded.shape[-1])
        with self.precise():
            with torch.no_grad():
                inner = self.network.inner(padded)  # type: ignore[operator]
                logits = self.network.segment(inner, size)[..., :height, :width]  # type: ignore[operator]
            support = SupportMaps(*(each[..., :height, :width] for each in self.forward(inner, size)))
        targets = lossy_targets(logits, labels, self.thresholds)
        edges = edge_mask((images * 255).round())
        sums, counts = area_loss(support.lossiness, targets, labels != VOID, edges)
        area = sum_of_means(sums, self.ranks.sum(counts))
        side = images.new_zeros(())
        sides = side_losses(support.sides, labels, self.weights)
        for weight, (total, mass) in zip(self.side_weights, sides, strict=True):
            side = side + weight * total / self.ranks.sum(mass)
        # DDP averages gradients over the processes, and the counts are those of all of them
        area, side = area * self.ranks.size, side * self.ranks.size
        loss = area + self.side_weight * side
        return {"loss": loss, "area": area.detach(), "side": side.detach()}

    def validate(self) -> dict[str, float] | None:
        """The loss of the lossiness head on the validation split, all of whose pixels are labelled."""
        if not self.validates:
            return None
        predictor = self.predictor()
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        counts = torch.zeros(2, dtype=torch.int64, device=self.device)
        for batch in image_batches(self.validated, self.validation_ids(), self.settings.optimisation.batch, masks=True):
            assert batch.masks is not None
            labels = batch.masks.to(self.device)
            logits, support = predictor.support_maps(batch.images)
            targets = lossy_targets(logits, labels, self.thresholds)
            edges = edge_mask(batch.images.to(self.device))
            found = area_loss(support.lossiness, targets, labels != VOID, edges)
            sums, counts = sums + found[0], counts + found[1]
        return {"area": float(sum_of_means(self.ranks.sum(sums), self.ranks.sum(counts)))}
