"""What an annotator sees of a region: its inside, without pixels that spill over an imperfect border."""

import numpy as np

from stages.regions.votes import vote


def inside(labels: np.ndarray, trim: int) -> np.ndarray:
    """(H,W) bool: pixels away from all borders between regions; labels (H,W) i32.

    Pixels on both sides of a border are excluded, with all pixels in a square of side ``trim`` (odd) around them: 3
    pixels on each side for 5 (multi_class_query.md 3). The image's edge is not a border. trim 0 excludes nothing.
    """
    if trim == 0:
        return np.ones(labels.shape, dtype=bool)
    border = np.zeros(labels.shape, dtype=bool)
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    border[:, 1:] |= across
    border[:, :-1] |= across
    border[1:] |= down
    border[:-1] |= down
    for axis in (0, 1):
        grown = border.copy()
        for shift in range(1, trim // 2 + 1):
            ahead, behind = [slice(None)] * 2, [slice(None)] * 2
            ahead[axis], behind[axis] = slice(shift, None), slice(None, -shift)
            grown[tuple(ahead)] |= border[tuple(behind)]
            grown[tuple(behind)] |= border[tuple(ahead)]
        border = grown
    return ~border


def evidence(mask: np.ndarray, labels: np.ndarray, count: int, classes: int, trim: int) -> np.ndarray:
    """(count, C+1) i32 pixels of each class, void last, that an annotator sees in each region.

    mask (H,W) u8, labels (H,W) i32, -1 = no region. A region too thin to have an inside is seen as a whole.
    """
    known = labels >= 0
    seen = known & inside(labels, trim)
    votes = vote(mask[seen], labels[seen], count, classes)
    thin = votes.sum(1) == 0
    if thin.any():
        rest = known.copy()
        rest[known] = thin[labels[known]]
        votes[thin] = vote(mask[rest], labels[rest], count, classes)[thin]
    return votes
