"""Labelled pixels that others are compared with, at most a given number per class, drawn at random."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.pixels.grids import Size
from stages.pixels.void import VOID
from stages.pseudo_labelling.neighbours import lowest
from stages.runtime.randomness import stream


@dataclass(frozen=True)
class References:
    """Labelled pixels: position of their image in a list, flat index in it, class, and random key, (R,) each."""

    image: np.ndarray
    pixel: np.ndarray
    label: np.ndarray
    key: np.ndarray

    def __len__(self) -> int:
        return len(self.pixel)

    @staticmethod
    def none() -> "References":
        return References(*(np.zeros(0, dtype) for dtype in (np.int64, np.int64, np.uint8, np.float64)))

    def at(self, rows: np.ndarray) -> "References":
        return References(self.image[rows], self.pixel[rows], self.label[rows], self.key[rows])


def labelled_pixels(ledger: Annotations, image: str, place: int, void: int, seed: int, cap: int) -> References:
    """The labelled pixels of ``image`` in row order; of those of one class ``cap``, drawn from a stream of the image.

    Void answers count as the class ``void``, and do not if that is 255.
    """
    labels = ledger.label_map(image, void).ravel()
    pixel = np.flatnonzero(labels != VOID)
    label, key = labels[pixel], stream(seed, "neighbours", image).random(len(pixel))
    found = References(np.full(len(pixel), place, dtype=np.int64), pixel, label, key)
    return found.at(lowest(key, label, cap))


def pool_references(parts: Iterable[References], cap: int) -> References:
    """Those of all images, ``parts``, sorted by image; of those of one class the ``cap`` with the lowest keys.

    Their keys belong to the image, so its place among the others is without effect. However many images there are, at
    most two times 256 classes of ``cap`` pixels are held, besides those of one image.
    """
    waiting, number = [References.none()], 0
    for part in parts:
        waiting.append(part)
        number += len(part)
        if number > cap * (VOID + 1):
            waiting, number = [capped(waiting, cap)], 0
    return capped(waiting, cap)


def capped(parts: list[References], cap: int) -> References:
    columns = (np.concatenate(each) for each in zip(*((p.image, p.pixel, p.label, p.key) for p in parts), strict=True))
    joined = References(*columns)
    return joined.at(lowest(joined.key, joined.label, cap))


def centres(pixels: np.ndarray, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """The centres of flat ``pixels`` (P,) of an image of ``size``, as shares of its height and width, f64."""
    y, x = np.divmod(pixels, size[1])
    return (y + 0.5) / size[0], (x + 0.5) / size[1]
