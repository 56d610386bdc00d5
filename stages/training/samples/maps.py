"""Training samples: images in memory if they fit, labels per crop, one random stream per draw."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.labels import Labels, open_labels
from stages.pixels.void import VOID
from stages.runtime.randomness import stream
from stages.settings.train import AugmentationSettings
from stages.training.colour import ColourDraw, draw_colour
from stages.training.window import Scales, Window, crop_image, crop_labels, draw_window

CACHE_SHARE = 0.5  # of the free memory; images that need more are read from the file for each crop


@dataclass(frozen=True)
class Batch:
    """(B,3,H,W) u8 images, (B,H,W) u8 labels, colour draws, and the number of labelled pixels.

    For class sets, labels (B,H,W) i32 are rows of ``sets`` (R,C) bool, -1 = none.
    """

    images: Tensor
    labels: Tensor
    colours: list[ColourDraw]
    labelled: int
    sets: Tensor | None = None


MapSample = tuple[np.ndarray, np.ndarray, ColourDraw, np.ndarray | None]


class TrainingSamples(TorchDataset[MapSample]):
    """Samples (index, epoch) -> crop, labels, colour draw, None; the same for any number of loader processes."""

    def __init__(
        self,
        dataset: Path,
        labels: Path,
        augmentation: AugmentationSettings,
        mean: Sequence[float],
        seed: int,
        learn_void: bool = False,
    ):
        self.paths = (dataset, labels)
        self.augmentation, self.seed = augmentation, seed
        self.files: tuple[Dataset, Labels] | None = None
        self.owner = -1
        opened, given = self.opened()
        self.void = len(opened.classes) if learn_void else VOID
        self.ids = self.labelled(given)
        red, green, blue = (int(255 * value) for value in mean)
        self.padding = (red, green, blue)
        sizes = [opened.sizes[image] for image in self.ids]
        self.crop = augmentation.crop or (max(h for h, _ in sizes), max(w for _, w in sizes))
        self.scales = Scales(*augmentation.scale_range, augmentation.scale_step)
        self.images = cached(opened, self.ids)

    @staticmethod
    def together(samples: list[Any]) -> Any:
        """A batch of samples."""
        return collate(samples)

    def labelled(self, labels: Labels) -> list[str]:
        """Ids of the images with a label."""
        return labels.labelled_ids(self.void)

    def opened(self) -> tuple[Dataset, Labels]:
        """The files, opened once per process: HDF5 handles do not survive a fork."""
        if self.files is None or self.owner != os.getpid():
            self.files = (Dataset(self.paths[0]), open_labels(self.paths[1]))
            self.owner = os.getpid()
        return self.files

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, key: Any) -> MapSample:
        index, epoch = key
        image = self.ids[index]
        _, given = self.opened()
        crop, colours, window = self.seen(image, epoch)
        return crop, crop_labels(given.label_map(image, self.void), window), colours, None

    def seen(self, image: str, *name: str | int) -> tuple[np.ndarray, ColourDraw, Window]:
        """A random crop of ``image``, its colour draw and its window; ``name`` names the random stream."""
        generator = stream(self.seed, "augmentation", *name, image)
        pixels = self.images[image] if image in self.images else self.opened()[0].image(image)
        flip, rotation = self.augmentation.flip, self.augmentation.rotation
        window = draw_window(pixels.shape[:2], self.crop, self.scales, flip, generator, rotation)
        return crop_image(pixels, window, self.padding), draw_colour(self.augmentation, generator), window


class SetSamples(TrainingSamples):
    """Samples (index, epoch) -> crop, (H,W) i32 rows of the image's class sets, colour draw, the sets (R,C) bool."""

    def __getitem__(self, key: Any) -> MapSample:
        index, epoch = key
        image = self.ids[index]
        _, given = self.opened()
        assert isinstance(given, Annotations)
        crop, colours, window = self.seen(image, epoch)
        places, sets = given.set_map(image)
        return crop, crop_labels(places, window, -1), colours, sets[:, : sets.shape[1] - (self.void == VOID)]


def cached(data: Dataset, ids: Sequence[str]) -> dict[str, np.ndarray]:
    """The images ``ids`` in memory if all of them fit, otherwise none."""
    size = sum(3 * data.sizes[image][0] * data.sizes[image][1] for image in ids)
    return {image: data.image(image) for image in ids} if size <= CACHE_SHARE * free_memory() else {}


def free_memory() -> int:
    """Free memory in bytes."""
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def collate(samples: list[MapSample]) -> Batch:
    images, labels, colours, sets = zip(*samples, strict=True)
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    if sets[0] is None:
        stacked = np.stack(labels)
        return Batch(pixels, torch.from_numpy(stacked), list(colours), int((stacked != VOID).sum()))
    first = np.cumsum([0] + [len(rows) for rows in sets[:-1]])  # position of each image's first row in the batch
    places = np.stack([np.where(own < 0, own, own + start) for own, start in zip(labels, first, strict=True)])
    rows = np.concatenate(sets)
    named = np.append(rows.any(axis=1), False)  # the last one is for -1
    labelled = int(named[places].sum())
    return Batch(pixels, torch.from_numpy(places), list(colours), labelled, torch.from_numpy(rows))


def epoch_batches(count: int, batch: int, seed: int, epoch: int, ranks: int = 1) -> list[np.ndarray]:
    """The shuffled sample indices of an epoch in batches; the last one may be short.

    It is dropped if it has fewer than two images per process, which batch normalisation needs.
    """
    order = stream(seed, "order", epoch).permutation(count)
    batches = [order[start : start + batch] for start in range(0, count, batch)]
    return batches[:-1] if len(batches) > 1 and len(batches[-1]) < 2 * ranks else batches


def place_in_turns(place: int, count: int, seed: int, *name: str) -> tuple[int, int]:
    """(index, turn) at ``place`` of a sequence that repeats ``count`` items, each turn in a new random order."""
    turn, number = divmod(place, count)
    return int(order_of(count, seed, *name, turn)[number]), turn


@lru_cache(maxsize=8)  # the places of a batch lie in one turn of each stream, rarely in two
def order_of(count: int, seed: int, *name: str | int) -> np.ndarray:
    """(count,) i64 permutation drawn for ``name``."""
    return stream(seed, "order", *name).permutation(count)


def ignore_signals(worker: int) -> None:
    """Loader processes ignore signals; the main process saves before it stops."""
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def load_batches(samples: TrainingSamples, keys: Iterable[list[Any]], workers: int, pin: bool) -> Iterator[Any]:
    """Loads the batches that ``keys`` name, in order; one loader per training, since workers start slowly."""
    yield from DataLoader(
        samples,
        batch_sampler=keys,
        num_workers=workers,
        collate_fn=samples.together,
        pin_memory=pin,
        worker_init_fn=ignore_signals,
    )
