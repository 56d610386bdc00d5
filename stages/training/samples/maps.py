"""Training samples: images in memory if they fit, labels per crop, one random stream per draw."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.labels import Labels, open_labels
from stages.pixels.grids import Size
from stages.pixels.void import VOID
from stages.runtime.errors import BadInput
from stages.runtime.free_memory import free_memory
from stages.runtime.randomness import stream
from stages.settings.train import AugmentationSettings
from stages.training.colour import ColourDraw, draw_colour
from stages.training.window import Scales, Window, crop_image, crop_labels, draw_window

CACHE_SHARE = 0.5  # of the free memory; images that need more are read from the file for each crop


@dataclass(frozen=True)
class Batch:
    """(B,3,H,W) u8 images, (B,H,W) u8 labels, colour draws, and the number of labelled pixels.

    ``views`` are the names of the images' fixed views, if there are such. For class sets, labels (B,H,W) i32 are rows
    of ``sets`` (R,C) bool, -1 = none.
    """

    images: Tensor
    labels: Tensor
    colours: list[ColourDraw]
    labelled: int
    sets: Tensor | None = None
    views: tuple[str, ...] = ()


File = TypeVar("File", Dataset, Labels)
MapSample = tuple[np.ndarray, np.ndarray, ColourDraw, np.ndarray | None]


class TrainingSamples:
    """Samples (index, epoch) -> crop, labels, colour draw, None; the same for any number of loader processes.

    With ``views`` each image has so many fixed views, which are used in turn; the first is not augmented. They are the
    same for all seeds, so that runs can share what is computed of them.

    They read the files that they were given open. In another process they open them again, and refuse what replaced
    one of them meanwhile.
    """

    def __init__(
        self,
        dataset: Dataset,
        labels: Labels,
        augmentation: AugmentationSettings,
        mean: Sequence[float],
        seed: int,
        learn_void: bool = False,
        views: int = 0,
    ):
        self.dataset, self.labels = dataset, labels
        self.augmentation, self.seed, self.views = augmentation, seed, views
        self.void = len(dataset.classes) if learn_void else VOID
        self.ids = self.labelled(labels)
        self.unlabelled: list[str] = []
        self.padding = tuple(int(255 * value) for value in mean)
        self.crop = augmentation.crop or self.largest()
        self.images: dict[str, np.ndarray] = {}
        self.keeps_images = False

    def largest(self) -> Size:
        """Height and width that hold each image."""
        sizes = [self.dataset.sizes[image] for image in self.every_id()]
        return max(height for height, _ in sizes), max(width for _, width in sizes)

    def add_unlabelled(self, split: str) -> None:
        """Makes samples of the images of ``split`` without a label too; their masks in the dataset are not read."""
        known = set(self.ids)
        self.unlabelled = [image for image in self.dataset.ids(split) if image not in known]
        self.crop = self.augmentation.crop or self.largest()

    def __getstate__(self) -> dict[str, Any]:
        """For another process: without open files and without the images in memory, which it reads itself."""
        files = {name: (getattr(self, name).path, getattr(self, name).digest) for name in ("dataset", "labels")}
        return self.__dict__ | files | {"images": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.dataset = require_unchanged(Dataset(state["dataset"][0]), state["dataset"][1])
        self.labels = require_unchanged(open_labels(state["labels"][0]), state["labels"][1])

    def keep_images(self, processes: int) -> None:
        """Keeps images in memory once read, if there is room for all of them in each of ``processes``."""
        sizes = [self.dataset.sizes[image] for image in self.every_id()]
        needed = sum(len(self.padding) * height * width for height, width in sizes)
        self.keeps_images = processes * needed <= CACHE_SHARE * free_memory()

    def every_id(self) -> list[str]:
        """Ids of all images that samples are made of."""
        return [*self.ids, *self.unlabelled]

    def image_of(self, key: Any) -> str:
        """Id of the image of the sample ``key``."""
        return self.ids[key[0]]

    def classes_in(self, batch: Any) -> np.ndarray:
        """Numbers of the classes that the labels of ``batch`` name, each once."""
        return np.setdiff1d(batch.labels.numpy(), [VOID])

    def batch(self, keys: Sequence[Any]) -> Any:
        """The batch of the samples ``keys``."""
        batch = self.together([self[key] for key in keys])
        if not self.views:
            return batch
        return replace(batch, views=tuple(self.view_name(self.image_of(key), key[-1]) for key in keys))

    @staticmethod
    def together(samples: list[Any]) -> Any:
        """A batch of samples."""
        return collate(samples)

    def labelled(self, labels: Labels) -> list[str]:
        """Ids of the images with a label."""
        return labels.labelled_ids(self.void)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, key: Any) -> MapSample:
        index, epoch = key
        image = self.ids[index]
        crop, colours, window = self.seen(image, epoch)
        return crop, crop_labels(self.labels.label_map(image, self.void), window), colours, None

    def seen(self, image: str, *name: str | int) -> tuple[np.ndarray, ColourDraw, Window]:
        """A random crop of ``image``, its colour draw and its window; ``name`` names the random stream."""
        window, generator = self.window(image, *name)
        augmentation, _ = self.drawn(image, *name)
        return crop_image(self.pixels(image), window, self.padding), draw_colour(augmentation, generator), window

    def window(self, image: str, *name: str | int) -> tuple[Window, np.random.Generator]:
        """The window that `seen` looks through, and the generator that drew it."""
        augmentation, generator = self.drawn(image, *name)
        flip, rotation, scales = augmentation.flip, augmentation.rotation, scales_of(augmentation)
        return draw_window(self.dataset.sizes[image], self.crop, scales, flip, generator, rotation), generator

    def drawn(self, image: str, *name: str | int) -> tuple[AugmentationSettings, np.random.Generator]:
        """How a sample is augmented, and the generator for that."""
        if not self.views:
            return self.augmentation, stream(self.seed, "augmentation", *name, image)
        view = self.view(image, int(name[-1]))
        augmentation = self.augmentation if view else without_augmentation(self.augmentation)
        return augmentation, stream(0, "view", view, image)

    def view(self, image: str, turn: int) -> int:
        """The fixed view of ``image`` that is used in its ``turn``; images of one turn differ, so that batches mix."""
        return (turn + zlib.crc32(image.encode())) % self.views

    def view_name(self, image: str, turn: int) -> str:
        """The name of that view."""
        return f"{image}/{self.view(image, turn)}"

    def answered(self, image: str) -> np.ndarray:
        """(H,W) bool on the grid of the labels: somebody answered about the pixel, if only with void."""
        return self.labels.label_map(image, VOID - 1) != VOID

    def no_labels(self) -> np.ndarray:
        """The labels of a crop of an image without any."""
        return np.full(self.crop, VOID, dtype=np.uint8)

    def no_sets(self) -> np.ndarray | None:
        """The class sets of an image without any."""
        return None

    def pixels(self, image: str) -> np.ndarray:
        """(H,W,B) u8 of ``image``, from memory if it was kept."""
        if image in self.images:
            return self.images[image]
        pixels = self.dataset.image(image)
        if self.keeps_images:
            self.images[image] = pixels
        return pixels


class SetSamples(TrainingSamples):
    """Samples (index, epoch) -> crop, (H,W) i32 rows of the image's class sets, colour draw, the sets (R,C) bool."""

    def __getitem__(self, key: Any) -> MapSample:
        index, epoch = key
        image = self.ids[index]
        assert isinstance(self.labels, Annotations)
        crop, colours, window = self.seen(image, epoch)
        places, sets = self.labels.set_map(image)
        return crop, crop_labels(places, window, -1), colours, sets[:, : self.set_width()]

    def set_width(self) -> int:
        """Classes that a set may name, void among them if it is learned."""
        return len(self.dataset.classes) + (self.void != VOID)

    def answered(self, image: str) -> np.ndarray:
        assert isinstance(self.labels, Annotations)
        return super().answered(image) | (self.labels.set_map(image)[0] >= 0)

    def no_labels(self) -> np.ndarray:
        return np.full(self.crop, -1, dtype=np.int32)

    def no_sets(self) -> np.ndarray:
        return np.zeros((0, self.set_width()), dtype=bool)

    def classes_in(self, batch: Any) -> np.ndarray:
        return np.flatnonzero(batch.sets.numpy().any(0))


def scales_of(augmentation: AugmentationSettings) -> Scales:
    return Scales(*augmentation.scale_range, augmentation.scale_step)


def without_augmentation(augmentation: AugmentationSettings) -> AugmentationSettings:
    """The same crops of the images at the scale nearest to their own, and nothing else at random."""
    low, high = augmentation.scale_range
    scale = min(max(1.0, low), high)
    still = {"flip": 0.0, "rotation": 0, "jitter": 0.0, "grey": 0.0, "blur": 0.0, "scale_step": 0.0}
    return augmentation.model_copy(update=still | {"scale_range": (scale, scale)})


def require_unchanged(file: File, digest: str) -> File:
    """``file``; BadInput unless its content is still that of ``digest``."""
    if file.digest != digest:
        file.close()
        raise BadInput(f"{file.path}: the file was replaced during the training. Run the command again.")
    return file


def collate(samples: list[MapSample]) -> Batch:
    images, labels, colours, sets = zip(*samples, strict=True)
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    if sets[0] is None:
        stacked = torch.from_numpy(np.stack(labels))
        return Batch(pixels, stacked, list(colours), labelled_pixels(stacked))
    first = np.cumsum([0] + [len(rows) for rows in sets[:-1]])  # position of each image's first row in the batch
    starts = zip(labels, first, strict=True)
    places = torch.from_numpy(np.stack([np.where(own < 0, own, own + start) for own, start in starts]))
    rows = torch.from_numpy(np.concatenate(sets))
    return Batch(pixels, places, list(colours), labelled_pixels(places, rows), rows)


def labelled_pixels(labels: Tensor, sets: Tensor | None = None) -> int:
    """Labelled pixels of the labels and sets of a batch, see `Batch`."""
    if sets is None:
        return int((labels != VOID).sum())
    named = torch.cat([sets.any(1), sets.new_zeros(1)])  # the last one is for -1
    return int(named[labels.long()].sum())


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
