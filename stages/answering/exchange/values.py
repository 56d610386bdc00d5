"""Pixel values of painted answers: the classes and four special values."""

from collections.abc import Mapping, Sequence

import numpy as np

from stages.pixels.void import VOID
from stages.runtime.errors import BadInput

UNPAINTED, SKIP, OPEN = VOID - 3, VOID - 2, VOID - 1
# background: not painted; open: a query without an answer; skip: a query answered with don't know
WORDS = {"background": UNPAINTED, "skip": SKIP, "open": OPEN, "void": VOID}
WORD_COLOURS = {UNPAINTED: (0, 0, 0), SKIP: (160, 160, 160), OPEN: (255, 0, 255), VOID: (255, 255, 255)}


def words_beside(classes: Sequence[str]) -> dict[int, str]:
    """Value -> name of the special values; prefixed with `alseg-` if a class has that name."""
    taken = {name.lower() for name in classes}
    return {value: word if word not in taken else f"alseg-{word}" for word, value in WORDS.items()}


def names_of(classes: Sequence[str]) -> dict[int, str]:
    """Value -> name, first of the classes, then of the special values; BadInput for too many classes."""
    if len(classes) > UNPAINTED:
        raise BadInput(
            f"Painted answers have room for {UNPAINTED} classes, not {len(classes)}. Use a table (.csv, .json)."
        )
    return dict(enumerate(classes)) | words_beside(classes)


def values_of(classes: Sequence[str]) -> dict[str, int]:
    """Name -> value, the inverse of `names_of`."""
    return {name: value for value, name in names_of(classes).items()}


def value_of(name: str, values: Mapping[str, int]) -> int | None:
    """The value of ``name`` in ``values``, as written or in lower case; None if there is none."""
    return values.get(name, values.get(name.lower()))


def colours_of(palette: np.ndarray) -> dict[int, tuple[int, int, int]]:
    """Value -> colour, all different; palette (C,3) u8 are the colours of the classes; duplicates are changed."""
    wished = dict(enumerate(tuple(colour) for colour in palette.tolist())) | WORD_COLOURS
    found: dict[int, tuple[int, int, int]] = {}
    taken: set[int] = set()
    for value, (red, green, blue) in wished.items():
        packed = red << 16 | green << 8 | blue
        while packed in taken:
            packed = (packed + 1) % (1 << 24)
        taken.add(packed)
        found[value] = (packed >> 16, packed >> 8 & 255, packed & 255)
    return found
