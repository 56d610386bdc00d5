"""Divides one set of files into splits, for datasets that are distributed without splits."""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Self

from pydantic import Field, model_validator

from stages.datasets.fields import Share, Table
from stages.runtime.randomness import stream_key

_TOLERANCE = 1e-5  # tolerance of the sum of the shares, so that thirds can be written


class Division(Table):
    """``split``, the split of files that is divided, and the share of its images in each new split."""

    split: str
    shares: dict[str, Share] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_sum(self) -> Self:
        total = sum(self.shares.values())
        if abs(total - 1) > _TOLERANCE:
            raise ValueError(f"the shares sum to {total:g}. Make them sum to 1.")
        return self


def divide(labels: Mapping[str, int], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """The split of each image in ``labels`` (image id -> its class, -1 = none), drawn within each class.

    The rank of an image within its class is drawn from the seed and its id only, so the order of files and other images
    do not matter. ``allot`` decides how many images go to each split.
    """
    strata: dict[int, list[str]] = {}
    for id, label in labels.items():
        strata.setdefault(label, []).append(id)
    found: dict[str, str] = {}
    chosen = sorted(strata)
    numbers = allot([len(strata[label]) for label in chosen], list(shares.values()))
    for label, row in zip(chosen, numbers, strict=True):
        drawn = sorted(strata[label], key=lambda id: (stream_key(seed, "division", id), id))
        splits = [split for split, number in zip(shares, row, strict=True) for _ in range(number)]
        found |= zip(drawn, splits, strict=True)
    return found


def divide_groups(sizes: Mapping[str, int], shares: Mapping[str, float], key: Callable[[str], Any]) -> dict[str, str]:
    """The split of each group of images that stay together; ``sizes``: its number of images.

    Groups come in the order of ``key``, each to the split that lacks most images of its share; the last ones to splits
    that have none yet.
    """
    numbers = allot([sum(sizes.values())], list(shares.values()))[0]
    lacking = dict(zip(shares, numbers, strict=True))
    empty = [split for split, number in lacking.items() if number]
    found = {}
    for place, group in enumerate(sorted(sizes, key=key)):
        candidates = empty if len(empty) >= len(sizes) - place else list(lacking)
        found[group] = max(candidates, key=lambda split: lacking[split])
        lacking[found[group]] -= sizes[group]
        empty = [split for split in empty if split != found[group]]
    return found


def allot(sizes: Sequence[int], shares: Sequence[float]) -> list[list[int]]:
    """Number of images of each stratum (rows, of ``sizes`` images) in each split (columns, of ``shares``).

    Rows sum to their size. Columns sum to the largest-remainder rounding of all images, so they miss their share by
    less than one image: each stratum is first rounded alone, by largest remainder; then single images move from the
    split with the largest excess to the one with the largest deficit, each in the stratum that it brings closest to its
    shares. Otherwise many small strata would all round the same way.
    """
    exact = [Fraction(str(share)) for share in shares]  # 0.1 means one tenth, not the nearest double
    exact = [share / sum(exact) for share in exact]
    table = [_rounded(size, exact) for size in sizes]
    wanted = _rounded(sum(sizes), exact)

    def excess(row: int, column: int) -> Fraction:
        return table[row][column] - sizes[row] * exact[column]

    while True:
        surplus = [sum(row[column] for row in table) - number for column, number in enumerate(wanted)]
        giver, taker = surplus.index(max(surplus)), surplus.index(min(surplus))
        if surplus[giver] == 0:
            return table
        able = [row for row in range(len(table)) if table[row][giver]]
        row = max(able, key=lambda row: excess(row, giver) - excess(row, taker))
        table[row][giver] -= 1
        table[row][taker] += 1


def _rounded(number: int, shares: Sequence[Fraction]) -> list[int]:
    """``number`` by largest remainder: shares rounded down, the rest to those that lost most (ties: the earlier)."""
    counts = [number * share.numerator // share.denominator for share in shares]
    lost = sorted(range(len(shares)), key=lambda place: counts[place] - number * shares[place])
    for place in lost[: number - sum(counts)]:
        counts[place] += 1
    return counts
