"""Run-length encoded masks of other tools: COCO's two kinds, and CVAT's."""

import numpy as np

from stages.pixels.grids import Size


def whole_runs(lengths: np.ndarray, size: Size) -> np.ndarray:
    """``lengths`` (n,) i64 of the runs outside, inside, outside, ...; ValueError unless they are those of an image."""
    pixels = size[0] * size[1]
    if (lengths < 0).any() or (lengths > pixels).any() or lengths.sum() != pixels:
        raise ValueError(f"has runs that do not add up to the {pixels} pixels of its image")
    return lengths


def string_runs(text: str) -> np.ndarray:
    """(n,) i64 runs in COCO's compressed string; ValueError for a malformed or truncated string.

    Six bits per character, least significant first; from the fourth run on, differences to the run two before.
    """
    codes = np.frombuffer(text.encode("latin-1", "replace"), dtype=np.uint8).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("has runs that are not a COCO string, or only a part of one")
    ends = np.flatnonzero(codes & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() > 10:
        raise ValueError("has runs that are not a COCO string")
    place = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    runs = np.add.reduceat((codes & 31) << (5 * place), starts)
    runs -= np.where(codes[ends] & 16, 1 << (5 * (ends - starts + 1)), 0)  # the sign is the highest bit
    runs[1::2], runs[2::2] = runs[1::2].cumsum(), runs[2::2].cumsum()
    return runs


def patch_of_runs(text: str, height: int, width: int) -> np.ndarray:
    """(height,width) bool of CVAT's runs outside, inside, ... along the rows, as "3, 2, 7"; ValueError if they are not.

    Runs of a patch are few, and are checked against its size before they are spread.
    """
    lengths = whole_runs(np.array([int(part) for part in text.split(",")], dtype=np.int64), (height, width))
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(height, width)
