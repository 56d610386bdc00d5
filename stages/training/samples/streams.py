"""Three parallel streams of images: with masks to learn from, without masks, and with masks as real examples."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.labels import Labels
from stages.pixels.void import VOID
from stages.runtime.errors import BadInput
from stages.settings.train import AugmentationSettings
from stages.training.colour import ColourDraw
from stages.training.samples.maps import TrainingSamples, place_in_turns
from stages.training.window import crop_labels

STREAMS = ("labelled", "unlabelled", "real")
StreamKey = tuple[str, int, int]  # stream, index of the image in it, how often it was drawn before


@dataclass(frozen=True)
class StreamPart:
    """(B,3,H,W) u8 images, (B,H,W) u8 labels (255 = none), (B,H,W) bool False in padding, colour draws."""

    images: Tensor
    labels: Tensor
    valid: Tensor
    colours: list[ColourDraw]


@dataclass(frozen=True)
class StreamBatch:
    """A batch: one part of each stream."""

    labelled: StreamPart
    unlabelled: StreamPart
    real: StreamPart


class StreamSamples(TrainingSamples):
    """Samples (stream, image, turn) -> crop, labels, (H,W) bool False in padding, colour draw.

    The unlabelled images are those of the split ``unlabelled_split`` without a full mask in the ledger. Their masks in
    the dataset are not read.
    """

    def __init__(
        self,
        dataset: Dataset,
        labels: Labels,
        augmentation: AugmentationSettings,
        mean: Sequence[float],
        seed: int,
        learn_void: bool = False,
        unlabelled_split: str = "train",
    ):
        super().__init__(dataset, labels, augmentation, mean, seed, learn_void)
        self.add_unlabelled(unlabelled_split)
        if not self.unlabelled:
            raise BadInput(
                f"Split {unlabelled_split!r} has no unlabelled images left: every image has a mask. Set --objective "
                "labels."
            )

    def labelled(self, labels: Labels) -> list[str]:
        assert isinstance(labels, Annotations)
        return sorted(labels.mask_ids - labels.empty_ids)

    @staticmethod
    def together(samples: list[Any]) -> StreamBatch:
        third = len(samples) // len(STREAMS)
        return StreamBatch(*(collate_part(samples[start : start + third]) for start in range(0, len(samples), third)))

    def ids_of(self, name: str) -> list[str]:
        return self.unlabelled if name == "unlabelled" else self.ids

    def __getitem__(self, key: Any) -> Any:
        name, index, turn = key
        image = self.ids_of(name)[index]
        size = self.dataset.sizes[image]
        crop, colours, window = self.seen(image, name, turn)
        inside = crop_labels(np.ones(size, dtype=np.uint8), window) != VOID
        labels = self.labels.label_map(image) if name != "unlabelled" else np.full(size, VOID, dtype=np.uint8)
        return crop, crop_labels(labels, window), inside, colours

    def image_of(self, key: Any) -> str:
        name, index, _ = key
        return self.ids_of(name)[index]

    def classes_in(self, batch: StreamBatch) -> np.ndarray:
        return super().classes_in(batch.labelled)

    def keys(self, first: int, steps: int, batch: int, rank: int, ranks: int) -> Iterator[list[StreamKey]]:
        """This process's share of the batches of steps ``first`` to ``steps`` - 1, one stream after the other."""
        for step in range(first, steps):
            places = range(step * batch + rank, (step + 1) * batch, ranks)
            yield [self.key(name, place) for name in STREAMS for place in places]

    def key(self, name: str, place: int) -> StreamKey:
        """The sample at a place of a stream, which repeats its images, each time in a new random order."""
        index, turn = place_in_turns(place, len(self.ids_of(name)), self.seed, name)
        return name, index, turn


def collate_part(samples: list[tuple[np.ndarray, np.ndarray, np.ndarray, ColourDraw]]) -> StreamPart:
    images, labels, valid, colours = zip(*samples, strict=True)
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return StreamPart(pixels, torch.from_numpy(np.stack(labels)), torch.from_numpy(np.stack(valid)), list(colours))
