"""Sets of pixels as runs over the row-major flat image, so that answered regions can be painted without their map."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def spans(first: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The integers first[i] .. first[i] + count[i] - 1 for all i, concatenated, and the i of each: two (N,) i64.

    first, count (n,) int, count >= 0.
    """
    count = count.astype(np.int64)
    owner = np.repeat(np.arange(len(count)), count)
    begins = np.cumsum(count) - count  # where the integers of i begin in the result
    return np.arange(len(owner)) + np.repeat(first.astype(np.int64) - begins, count), owner


@dataclass(frozen=True)
class Areas:
    """A sets of pixels, each of one image.

    Area a consists of the runs offsets[a] to offsets[a + 1]; run r covers the flat indices start[r] to
    start[r] + length[r]. The runs of an area ascend and are maximal; a run may continue in the next row of the image.
    Areas may overlap, and may be empty.

    offsets (A+1,) i64, start (R,) i32, length (R,) i32.
    """

    offsets: np.ndarray
    start: np.ndarray
    length: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def pixels(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The pixels of the areas ``rows`` (n,) int, one area after the other in that order.

        Returns index (P,) i64, the flat indices, ascending inside an area, and owner (P,) i64, for each the position
        of its area in ``rows``. An area may be named more than once.
        """
        runs, area_of_run = spans(self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows])
        index, run_of_pixel = spans(self.start[runs], self.length[runs])
        return index, area_of_run[run_of_pixel]

    def taken(self, rows: np.ndarray) -> "Areas":
        """The areas ``rows`` (n,) int, in that order."""
        runs, _ = spans(self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows])
        count = self.offsets[rows + 1] - self.offsets[rows]
        return Areas(np.concatenate([[0], np.cumsum(count)]).astype(np.int64), self.start[runs], self.length[runs])

    def sizes(self) -> np.ndarray:
        """(A,) i64 number of pixels of each area."""
        total = np.concatenate([[0], np.cumsum(self.length, dtype=np.int64)])
        return np.diff(total[self.offsets])

    def followed_by(self, other: "Areas") -> "Areas":
        """These areas, followed by those of ``other``."""
        return joined([self, other])


def joined(parts: Sequence[Areas]) -> Areas:
    """The areas of all ``parts`` (at least one), concatenated."""
    counts = np.concatenate([np.diff(part.offsets) for part in parts])
    return Areas(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.concatenate([part.start for part in parts]),
        np.concatenate([part.length for part in parts]),
    )


def empty_areas(count: int) -> Areas:
    """``count`` areas without pixels, for answers that do not refer to regions."""
    return Areas(np.zeros(count + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32))


def areas_of(labels: np.ndarray, wanted: np.ndarray) -> Areas:
    """The pixels of the regions ``wanted``, in that order.

    labels (H,W) i32, negative where there is no region; wanted (A,) i32 distinct ids in any order.
    ValueError if an id is listed twice, is negative, or has no pixel.
    """
    flat = labels.ravel()
    if len(np.unique(wanted)) != len(wanted) or wanted.min(initial=0) < 0:
        raise ValueError("a region is wanted twice, or has a negative id")
    # The ids are distinct, so each run of one id is maximal in its area, and only run starts need a lookup.
    start = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])[: len(flat)]
    length = np.diff(start, append=len(flat))
    ids = flat[start]
    highest = max(int(ids.max(initial=-1)), int(wanted.max(initial=-1)))
    position = np.full(highest + 2, -1, np.int64)  # the last entry serves all negative ids
    position[wanted] = np.arange(len(wanted))
    area = position[np.maximum(ids, -1)]
    runs = np.flatnonzero(area >= 0)
    runs = runs[np.argsort(area[runs], kind="stable")]
    count = np.bincount(area[runs], minlength=len(wanted))
    if (count == 0).any():
        raise ValueError(f"no pixel has the region id {wanted[count == 0][0]}")
    offsets = np.concatenate([[0], np.cumsum(count)])
    return Areas(offsets, start[runs].astype(np.int32), length[runs].astype(np.int32))
