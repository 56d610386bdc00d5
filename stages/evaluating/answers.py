"""The answers of a ledger's last round beside what a model predicts there: how good it is, without masks.

The model did not learn from these answers. Where queries were selected because a model was unsure, it is right less
often than elsewhere; those drawn at random (control) are a fair sample of the pool.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.answers import ANSWERED
from stages.artifacts.purposes import AGAIN, CONTROL
from stages.pixels.void import VOID
from stages.runtime.errors import BadInput


@dataclass(frozen=True)
class Compared:
    """Q answers beside a prediction.

    image (Q,) i64 indexes the images of the ledger, purpose (Q,) u8; weight (Q,) f64: the pixels of the query, right
    (Q,) f64: those predicted right. Its K entries of a confusion matrix, none for class sets: owner (K,) i64 the query,
    cell (K,) i64 = true class * C + predicted class, pixels (K,) f64.
    """

    image: np.ndarray
    purpose: np.ndarray
    weight: np.ndarray
    right: np.ndarray
    owner: np.ndarray
    cell: np.ndarray
    pixels: np.ndarray

    def __len__(self) -> int:
        return len(self.image)

    def taken(self, chosen: np.ndarray) -> "Compared":
        """The answers ``chosen`` (Q,) bool."""
        number = np.cumsum(chosen) - 1
        kept = chosen[self.owner]
        return Compared(
            image=self.image[chosen],
            purpose=self.purpose[chosen],
            weight=self.weight[chosen],
            right=self.right[chosen],
            owner=number[self.owner[kept]],
            cell=self.cell[kept],
            pixels=self.pixels[kept],
        )

    @property
    def of_control(self) -> np.ndarray:
        """(Q,) bool: drawn at random."""
        return self.purpose == CONTROL

    def confusion(self, classes: int) -> np.ndarray:
        """(C,C) i64 pixels, rows = answers."""
        found = np.bincount(self.cell, weights=self.pixels, minlength=classes * classes)
        return found.astype(np.int64).reshape(classes, classes)


@dataclass(frozen=True)
class Answered:
    """A ledger, and the rows of its last round to compare with by image, see `rows_to_compare`."""

    ledger: Annotations
    rows: dict[str, np.ndarray]


NO_ANSWERS = Compared(*(np.zeros(0, dtype) for dtype in ("i8", "u1", "f8", "f8", "i8", "i8", "f8")))


def joined(parts: Sequence[Compared]) -> Compared:
    """The answers of all ``parts``, one after another."""
    first = np.cumsum([0, *(len(part) for part in parts)])
    moved = [replace(part, owner=part.owner + start) for part, start in zip(parts, first[:-1], strict=True)]
    return Compared(
        **{each.name: np.concatenate([getattr(part, each.name) for part in moved]) for each in fields(Compared)}
    )


def rows_to_compare(ledger: Annotations) -> dict[str, np.ndarray]:
    """Image -> rows of the answers of the last round that name classes of its pixels and were asked for the first time.

    BadInput if there are none.
    """
    answers = ledger.answers
    last = (answers.round == ledger.next_round - 1) & (answers.image_level == 0)
    fit = last & (answers.state == ANSWERED) & (answers.purpose < AGAIN)
    found = {image: rows[fit[rows]] for image, rows in ledger.rows.items() if fit[rows].any()}
    if not found:
        raise BadInput(
            f"{ledger.path}: no answer of its last round names a class of a pixel or region that was queried for the "
            "first time, so there is nothing to compare with. Answer more, or evaluate on masks."
        )
    return found


def compared(ledger: Annotations, image: str, rows: np.ndarray, predicted: np.ndarray, classes: int) -> Compared:
    """The answers ``rows`` (n,) about ``image`` beside the ``predicted`` classes (H,W) on its grid in the ledger.

    A region counts by the class predicted for most of its pixels, the smallest one in a tie. Class sets are right if
    they contain it. Masks and exact labels count pixel by pixel, without void.
    """
    answers, flat = ledger.answers, predicted.ravel().astype(np.int64)
    of_sets = answers.class_sets[rows, :-1].any(1)
    exact = (answers.label[rows] == VOID) & ~of_sets
    points = rows[~exact & (answers.y[rows] >= 0)]
    of_points = one_class(
        ledger, points, predicted[answers.y[points], answers.x[points]], np.ones(len(points)), classes
    )
    regions = rows[~exact & answers.of_regions[rows]]
    index, owner = answers.areas.pixels(regions)
    votes = np.bincount(owner * classes + flat[index], minlength=len(regions) * classes).reshape(-1, classes)
    sizes = answers.areas.sizes()[regions].astype(np.float64)
    single = ~answers.class_sets[regions, :-1].any(1)
    majority = votes.argmax(1)
    of_regions = one_class(ledger, regions[single], majority[single], sizes[single], classes)
    several = regions[~single]
    in_set = answers.class_sets[several, majority[~single]] == 1
    weight = sizes[~single]
    none = np.zeros(0, dtype=np.int64)
    sets = Compared(answers.image[several], answers.purpose[several], weight, weight * in_set, none, none, none * 0.0)
    return joined([of_points, of_regions, sets, pixel_by_pixel(ledger, image, rows[exact], flat, classes)])


def one_class(
    ledger: Annotations, rows: np.ndarray, predicted: np.ndarray, weight: np.ndarray, classes: int
) -> Compared:
    """Answers ``rows`` (n,) that name one class each, beside one class ``predicted`` (n,) each."""
    answers = ledger.answers
    truth = answers.label[rows].astype(np.int64)
    right = weight * (truth == predicted)
    cell = truth * classes + predicted
    return Compared(answers.image[rows], answers.purpose[rows], weight, right, np.arange(len(rows)), cell, weight)


def pixel_by_pixel(ledger: Annotations, image: str, rows: np.ndarray, flat: np.ndarray, classes: int) -> Compared:
    """Masks and exact labels of regions, ``rows`` (n,), beside the predicted classes ``flat`` (H*W,)."""
    answers = ledger.answers
    if not len(rows) or image not in ledger.exact_ids:
        return NO_ANSWERS
    mask = ledger.read(f"masks/{image}").ravel()
    index, owner = answers.areas.pixels(rows)  # empty for whole images
    whole = np.flatnonzero(answers.of_images[rows])
    index = np.concatenate([index, np.tile(np.arange(len(mask)), len(whole))])
    owner = np.concatenate([owner, np.repeat(whole, len(mask))])
    known = mask[index] != VOID
    index, owner = index[known], owner[known]
    cells = classes * classes
    entry, count = np.unique(owner * cells + mask[index] * np.int64(classes) + flat[index], return_counts=True)
    owner, cell, pixels = entry // cells, entry % cells, count.astype(np.float64)
    weight = np.bincount(owner, pixels, len(rows))
    right = np.bincount(owner, pixels * (cell // classes == cell % classes), len(rows))
    return Compared(answers.image[rows], answers.purpose[rows], weight, right, owner, cell, pixels)
