"""What a kind of artifact holds, and in which words a file is refused that does not."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from stages.pixels.void import VOID

Extents = dict[str, int]  # sizes that several arrays share, by name: N images, C classes


@dataclass(frozen=True)
class Attribute:
    """An attribute of a kind: text, a number, a table (dict), names (list), or a number per channel (tuple).

    ``extent`` names its value or its length; the numbers of channels are above ``above``.
    """

    name: str
    type: type = str
    choices: tuple[str, ...] = ()
    extent: str = ""
    above: float = -math.inf
    optional: bool = False

    def fault(self, attributes: Mapping[str, Any]) -> str | None:
        value = attributes.get(self.name)
        if value is None:
            return None if self.optional else "is missing"
        if self.type is list:
            if not value or not isinstance(value, list) or not all(isinstance(name, str) for name in value):
                return "is not a list of names"
            return f"lists {len(value)} names, more than {VOID}" if len(value) > VOID else None
        if self.type is tuple:
            right = isinstance(value, list) and value and all(isinstance(each, int | float) for each in value)
            return None if right and all(self.above < each < math.inf for each in value) else f"is {value!r}"
        if not isinstance(value, self.type) or isinstance(value, bool) or (isinstance(value, int) and value < 0):
            return f"is {value!r}"
        if self.choices and value not in self.choices:
            return f"is {value!r}, none of {', '.join(self.choices)}"
        return None

    def size(self, attributes: Mapping[str, Any]) -> Extents:
        if not self.extent or self.name not in attributes:
            return {}
        value = attributes[self.name]
        return {self.extent: value if self.type is int else len(value)}


def bands_fault(attributes: Mapping[str, Any]) -> str | None:
    """Why the attributes mean and std do not tell one number of bands; None if they do."""
    mean, std = attributes["mean"], attributes["std"]
    return None if len(mean) == len(std) else f"is {mean!r}, but std is {std!r}"


@dataclass(frozen=True)
class Array:
    """An array of a kind; at ``folder/*`` there is one per image, of which ``H`` and ``W`` are the sides.

    types: beginnings of NumPy type codes. shape: numbers and names of extents, also ``R+1``; a name without a value
    gets that of the first array. Values are at least ``low`` and below ``below`` (a number or a name), or, with
    ``void``, 255. ``offsets`` rise from 0 to the extent of that name. Text that is ``unique`` names images or files.
    """

    path: str
    types: tuple[str, ...]
    shape: tuple[int | str, ...]
    low: float | None = None
    below: int | str | None = None
    void: bool = False
    nan: bool = False
    infinite: bool = False
    offsets: str = ""
    unique: bool = False
    optional: bool = False

    def shape_fault(self, dtype: np.dtype[Any], shape: tuple[int, ...], extents: Extents) -> str | None:
        """The fault of an array of this type and shape; extents without a value get one."""
        if not dtype.str[1:].startswith(self.types):
            return f"has values of type {dtype}"
        if len(shape) != len(self.shape):
            return f"has {len(shape)} dimensions instead of {len(self.shape)}"
        for side, expected in zip(shape, self.shape, strict=True):
            name, more = split_extent(expected)
            wanted = more + (extents.setdefault(name, max(side - more, 0)) if name else 0)
            if side != wanted:
                return f"has {side} entries instead of {wanted}"
        return None

    def value_fault(self, values: np.ndarray, extents: Extents, whole: bool) -> str | None:
        """The fault in ``values``, the array or (not ``whole``) a window of it."""
        if values.dtype.kind == "S":
            return names_fault(values.tolist()) if self.unique else None
        if self.offsets:
            if self.offsets not in extents:
                return "refers to arrays that are missing"
            return offsets_fault(values, extents[self.offsets], whole)
        if not values.size or (self.nan and self.infinite):
            return None
        if self.void:  # 255 wraps around to 0
            lowest, highest = 0, int((values + np.uint8(1)).max()) - 1
        else:
            lowest, highest = values.min(), values.max()  # NaN if any is
        if values.dtype.kind == "f":
            if np.isnan(lowest) and self.nan:
                return self.value_fault(values[~np.isnan(values)], extents, whole)
            if np.isnan(lowest):
                return "contains NaN"
            if not self.infinite and not np.isfinite([lowest, highest]).all():
                return "contains infinite values"
        if self.low is not None and lowest < self.low:
            return f"contains {lowest}, below {self.low}"
        if self.below is not None:
            name, more = split_extent(self.below)
            if name and name not in extents:
                return "refers to arrays that are missing"
            limit = more + (extents[name] if name else 0)
            if highest >= limit:
                return f"contains {highest}, where all values are below {limit}"
        return None


def split_extent(side: int | str) -> tuple[str, int]:
    """The name of an extent and what is added to it: ("R", 1) for ``R+1``, ("", 3) for 3."""
    if isinstance(side, int):
        return "", side
    name, _, more = side.partition("+")
    return name, int(more or 0)


def names_fault(names: list[bytes]) -> str | None:
    """Why ``names`` do not identify images, after which files are named."""
    try:
        texts = [name.decode() for name in names]
    except UnicodeDecodeError:
        return "contains text that is not UTF-8"
    if len(set(texts)) < len(texts):
        return f"contains {Counter(texts).most_common(1)[0][0]!r} twice"
    for text in texts:
        if {"", ".", ".."} & set(text.split("/")):
            return f"contains {text!r}, which is not a valid file name"
    return None


def offsets_fault(values: np.ndarray, end: int, whole: bool) -> str | None:
    if not values.size or (values[1:] < values[:-1]).any() or values[0] < 0 or values[-1] > end:
        return f"does not rise from 0 to {end}"
    return f"does not rise from 0 to {end}" if whole and (values[0] != 0 or values[-1] != end) else None


def pattern_of(path: str) -> str:
    """The path of the `Array` that describes ``path``, an array of one image."""
    return f"{PurePosixPath(path).parts[0]}/*"
