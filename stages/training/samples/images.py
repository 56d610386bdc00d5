"""Training samples labelled as a whole: with the class of the image, or the classes in it."""

from typing import Any

import numpy as np
import torch

from stages.artifacts.annotations import Annotations
from stages.artifacts.answers import ANSWERED_VOID
from stages.artifacts.labels import Labels
from stages.pixels.void import VOID
from stages.runtime.errors import BadInput
from stages.training.colour import ColourDraw
from stages.training.samples.maps import Batch, TrainingSamples

ImageSample = tuple[np.ndarray, np.ndarray, ColourDraw]


class ImageSamples(TrainingSamples):
    """Samples (index, epoch) -> crop, the image's class () i64 or classes (C,) f32, colour draw."""

    def labelled(self, labels: Labels) -> list[str]:
        assert isinstance(labels, Annotations)
        self.targets = image_targets(labels)
        if not self.targets:
            raise BadInput(f"{labels.path} has no classes of images: every answer is void. Annotate more.")
        return sorted(self.targets)

    @staticmethod
    def together(samples: list[ImageSample]) -> Batch:
        images, targets, colours = zip(*samples, strict=True)
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        return Batch(pixels, torch.from_numpy(np.stack(targets)), list(colours), len(samples))

    def classes_in(self, batch: Batch) -> np.ndarray:
        labels = batch.labels.numpy()
        return np.flatnonzero(labels.any(0)) if labels.ndim > 1 else np.unique(labels)

    def __getitem__(self, key: Any) -> Any:
        index, epoch = key
        crop, colours, _ = self.seen(self.ids[index], epoch)
        return crop, self.targets[self.ids[index]], colours


def image_targets(ledger: Annotations) -> dict[str, np.ndarray]:
    """Image id -> its class () i64, or (C,) f32 if classes were named together; the last answer counts.

    If some answers name all classes in an image, answers that name one class are ignored: they do not say which other
    classes are absent.
    """
    answers, targets = ledger.answers, {}
    sets = answers.class_sets[:, :-1].astype(np.float32)
    several = ledger.names_sets
    for row in ledger.image_rows:
        if several and (sets[row].any() or answers.state[row] == ANSWERED_VOID):
            targets[ledger.ids[answers.image[row]]] = sets[row]
        if not several and answers.label[row] != VOID:
            targets[ledger.ids[answers.image[row]]] = np.int64(answers.label[row])
    return targets
