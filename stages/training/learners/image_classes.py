"""A classifier learning the classes of whole images (spec als4gan.md 2.2)."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.artifacts.annotations import Annotations
from stages.artifacts.labels import Labels
from stages.datasets.image_labels import classes_present, image_class
from stages.networks.predictor import Images, image_batches
from stages.pixels.void import VOID
from stages.training.learners.network import NetworkLearner
from stages.training.samples.images import ImageSamples
from stages.training.samples.maps import Batch


class ImageLearner(NetworkLearner):
    """Cross-entropy with the image's class, or binary cross-entropy with each class if all classes are named.

    Validation measures the share of correct classes: per image, or per image and class if all classes are named. A
    class is present in a validation image from the same share of pixels on as in the simulated answers.
    """

    criterion, lower_is_better = "accuracy", False
    samples_kind = ImageSamples
    fewest_images = 0

    def count_labels(self, labels: Labels) -> np.ndarray:
        assert isinstance(labels, Annotations)
        assert isinstance(self.samples, ImageSamples)
        self.classes = len(labels.image_classes)
        targets = list(self.samples.targets.values())
        return np.sum(targets, 0).astype(np.int64) if self.several else np.bincount(targets, minlength=self.classes)

    def class_names(self) -> list[str]:
        assert isinstance(self.labels, Annotations)
        return self.labels.image_classes

    def can_validate(self) -> bool:
        assert isinstance(self.labels, Annotations)
        self.several, split = self.labels.names_sets, self.settings.validation.validation_split
        if self.several:
            return self.dataset.has_masks(split)
        known = [image for image in self.dataset.all_ids if self.dataset.splits[image] == split]
        return bool(known) and all(image in self.dataset.labels or f"masks/{image}" in self.dataset for image in known)

    def validation_images(self) -> Images:
        return self.dataset

    def losses(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        found, targets = logits.flatten(1).float(), batch.labels.to(self.device)
        count = self.ranks.sum(torch.tensor(len(found), device=self.device))
        if self.several:
            total = F.binary_cross_entropy_with_logits(found, targets, reduction="none").mean(1).sum()
        else:
            total = F.cross_entropy(found, targets, self.weights, reduction="sum")
        return {"loss": total * self.ranks.size / count}

    def validate(self) -> dict[str, float] | None:
        if not self.validates:
            return None
        assert isinstance(self.labels, Annotations)
        predictor, share = self.predictor(), self.labels.presence_share
        right = asked = 0
        for batch in image_batches(self.validated, self.validation_ids(), self.settings.optimisation.batch):
            logits = predictor.logits(batch.images).flatten(1).cpu().numpy()
            for image, row in zip(batch.ids, logits, strict=True):
                if self.several:
                    truth = classes_present(self.dataset.mask(image), self.classes, share)
                    right, asked = right + int(((row > 0) == truth).sum()), asked + self.classes
                elif (label := image_class(self.dataset, image)) != VOID:
                    right, asked = right + int(row.argmax() == label), asked + 1
        counts = self.ranks.sum(torch.tensor([right, asked], device=self.device)).tolist()
        return {"accuracy": counts[0] / max(counts[1], 1)}
