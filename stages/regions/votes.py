"""Labels of regions from those of their pixels (adaptive_superpixel.md 2.7 and 7)."""

from typing import Literal

import numpy as np

from stages.pixels.void import VOID


def vote(labels: np.ndarray, owner: np.ndarray, count: int, classes: int) -> np.ndarray:
    """Histogram of the labels of each region: (count, classes + 1) i32, void in the last column.

    labels (P,) u8 of pixels, owner (P,) int region of each, 0 to count - 1.
    ValueError for a label that is neither a class nor void.
    """
    columns = np.full(256, classes + 1)
    columns[:classes] = np.arange(classes)
    columns[VOID] = classes
    column = columns[labels]
    if column.max(initial=0) > classes:
        raise ValueError(f"label {labels[column > classes][0]} is none of {classes} classes and not void ({VOID})")
    votes = np.bincount(owner.astype(np.int64) * (classes + 1) + column, minlength=count * (classes + 1))
    return votes.reshape(count, classes + 1).astype(np.int32)


def dominant(votes: np.ndarray, void_policy: Literal["count", "exclude"]) -> np.ndarray:
    """The label with the most votes in each region, (A,) u8; ties go to the smallest class, and void loses all ties.

    votes (A,C+1) as of `vote`. "count": void votes like a class, and a region that it wins is 255. "exclude":
    255 only if all pixels are void. A region without pixels is 255.
    """
    candidates = votes if void_policy == "count" else votes[:, :-1]
    winner = candidates.argmax(1)  # the first of equals: the smallest class, void being last
    winner[(winner == votes.shape[1] - 1) | (candidates.max(1) == 0)] = VOID
    return winner.astype(np.uint8)


def vote_all(mask: np.ndarray, labels: np.ndarray, count: int, classes: int) -> np.ndarray:
    """`vote` of all regions of an image: mask (H,W) u8, labels (H,W) i32, -1 = no region."""
    inside = labels >= 0
    return vote(mask[inside], labels[inside], count, classes)


def achievable(votes: np.ndarray) -> tuple[int, int]:
    """Non-void pixels that are correct if each region takes its best class, and all non-void pixels. votes (A,C+1)."""
    classes = votes[:, :-1].astype(np.int64)
    return int(classes.max(1).sum()), int(classes.sum())


def label_precision(votes: np.ndarray, labels: np.ndarray) -> float | None:
    """Share of the non-void pixels whose class is their region's label; None without any.

    votes (A,C+1) as of `vote`, labels (A,) u8; regions labelled 255 do not count.
    """
    named = np.flatnonzero(labels != VOID)
    pixels = int(votes[named, :-1].sum(dtype=np.int64))
    return float(votes[named, labels[named]].sum(dtype=np.int64) / pixels) if pixels else None
