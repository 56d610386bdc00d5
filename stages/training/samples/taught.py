"""Labelled images and images without a label in one batch, and the pixels of both that nobody was asked about."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.training.samples.maps import Batch, TrainingSamples
from stages.training.window import crop_labels

TaughtKey = tuple[str, int, int]  # labelled or unlabelled, index of the image, epoch or how often it was drawn before

LABELLED, UNLABELLED = "labelled", "unlabelled"


@dataclass(frozen=True)
class TaughtBatch:
    """A batch of labelled images, then of images without a label, and its open pixels (B,H,W) bool.

    A pixel is open if it is in the image (not in the padding) and nobody answered about it, not even with void.
    """

    batch: Batch
    open: Tensor

    @property
    def labelled(self) -> int:
        """Number of labelled pixels."""
        return self.batch.labelled


class TaughtSamples:
    """Samples (labelled or unlabelled, index, turn) of the images of ``samples``, whatever its kind of labels."""

    def __init__(self, samples: TrainingSamples):
        self.samples = samples

    def keep_images(self, processes: int) -> None:
        self.samples.keep_images(processes)

    def image_of(self, key: TaughtKey) -> str:
        name, index, _ = key
        return (self.samples.ids if name == LABELLED else self.samples.unlabelled)[index]

    def batch(self, keys: Sequence[TaughtKey]) -> TaughtBatch:
        open_pixels = np.stack([self.open_pixels(key) for key in keys])
        batch = self.samples.together([self[key] for key in keys])
        if self.samples.views:
            views = tuple(self.samples.view_name(self.image_of(key), key[-1]) for key in keys)
            batch = replace(batch, views=views)
        return TaughtBatch(batch, torch.from_numpy(open_pixels))

    def __getitem__(self, key: TaughtKey) -> Any:
        name, index, turn = key
        if name == LABELLED:
            return self.samples[index, turn]
        crop, colours, _ = self.samples.seen(self.image_of(key), name, turn)
        return crop, self.samples.no_labels(), colours, self.samples.no_sets()

    def open_pixels(self, key: TaughtKey) -> np.ndarray:
        """(H,W) bool of the crop of a sample."""
        name, _, turn = key
        image = self.image_of(key)
        if name == LABELLED:
            window, _ = self.samples.window(image, turn)
            answered = self.samples.answered(image)
        else:
            window, _ = self.samples.window(image, name, turn)
            answered = np.zeros(self.samples.dataset.sizes[image], dtype=bool)
        return ~crop_labels(answered, window, padding=True)
