"""What the pixels of a region say about its label (adaptive_superpixel.md 2.7 and 7)."""

from typing import Literal

import numpy as np

from stages.artifacts.dataset import VOID


def vote(labels: np.ndarray, owner: np.ndarray, count: int, classes: int) -> np.ndarray:
    """Histogram of the labels of every region: (count, classes + 1) i32, void in the last column.

    labels (P,) u8 of pixels, owner (P,) int the region of each, 0 to count - 1.
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
    """The label with the most votes in each region, (A,) u8; ties go to the smallest class, void loses them all.

    votes (A,C+1) as `vote` gives them. "count": void votes like a class, and a region that it wins is 255. "exclude":
    255 only where all pixels are void. A region without pixels is 255.
    """
    candidates = votes if void_policy == "count" else votes[:, :-1]
    winner = candidates.argmax(1)  # the first of equals: the smallest class, void being last
    winner[(winner == votes.shape[1] - 1) | (candidates.max(1) == 0)] = VOID
    return winner.astype(np.uint8)


def achievable_accuracy(votes: np.ndarray) -> float:
    """Share of the non-void pixels that are right if every region takes its best class; NaN without such pixels.

    votes (A,C+1) as `vote` gives them.
    """
    classes = votes[:, :-1].astype(np.int64)
    total = classes.sum()
    return float(classes.max(1).sum() / total) if total else float("nan")
