"""Queries that no rule chooses: drawn at random (control), answered before (again), with known answers (gold)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.answers import SKIPPED
from stages.artifacts.purposes import AGAIN, CONTROL, GOLD
from stages.artifacts.scores import Scores
from stages.artifacts.superpixels import Superpixels
from stages.pixels.grids import Size
from stages.runtime.console import say
from stages.runtime.randomness import stream

Columns = dict[str, np.ndarray]
NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Extra:
    """E queries. image (E,) i64 counts over the sorted ids of the scores, purpose (E,) u8.

    index (E,) i64: the flat index of a pixel on the grid of its image, the global index of a region, or the image.
    """

    image: np.ndarray
    index: np.ndarray
    purpose: np.ndarray

    @classmethod
    def of(cls, image: np.ndarray, index: np.ndarray, purpose: int) -> "Extra":
        return cls(image, index, np.full(len(image), purpose, dtype=np.uint8))

    def followed_by(self, *others: "Extra") -> "Extra":
        every = (self, *others)
        return Extra(
            *(np.concatenate([getattr(each, name) for each in every]) for name in ("image", "index", "purpose"))
        )

    def rows_of(self, number: int) -> np.ndarray:
        """Rows of the queries of the image ``number``."""
        return np.flatnonzero(self.image == number)

    def per_image(self, images: int) -> np.ndarray:
        """(images,) i64 number of queries."""
        return np.bincount(self.image, minlength=images)

    def before(self, columns: Columns, own: Columns) -> Columns:
        """``columns`` of what the rule chose, after these queries with their ``own`` columns, and all purposes."""
        if not len(self.image):
            return columns
        purpose = np.zeros(len(columns["image"]), dtype=np.uint8)
        found = {name: np.concatenate([own[name], values]) for name, values in columns.items()}
        return found | {"purpose": np.concatenate([self.purpose, purpose])}


NOTHING = Extra.of(NONE, NONE, CONTROL)


@dataclass(frozen=True)
class Mixture:
    """The shares of the queries of a round that the rule does not choose, and the ledgers that they come from."""

    ledger: Annotations | None = None
    gold: Annotations | None = None
    shares: dict[int, float] = field(default_factory=dict)  # purpose -> share
    round: int = 0
    seed: int = 0

    def number(self, purpose: int, total: int) -> int:
        """How many of ``total`` queries are for ``purpose``, rounded."""
        return int(self.shares.get(purpose, 0.0) * total + 0.5)

    def generator(self, name: str) -> np.random.Generator:
        return stream(self.seed, name, self.round)

    def known(self, unit: str, scores: Scores, regions: Superpixels | None, total: int) -> Extra:
        """Queries of what has an answer: gold that was not asked before, and units of the ledger asked once.

        ``total`` is the budget of the round. If there are fewer, all of them are taken, and that is said.
        """
        if self.number(GOLD, total) + self.number(AGAIN, total) == 0:
            return NOTHING
        found = NOTHING
        if self.gold is not None:
            image, index = answered_units(self.gold, unit, scores, regions)
            used = units_with(self.ledger, unit, scores, regions, GOLD)
            fresh = ~np.isin(keys(image, index), used)
            found = self.drawn(image[fresh], index[fresh], GOLD, total)
        if self.ledger is not None:
            image, index = answered_units(self.ledger, unit, scores, regions, once=True)
            others = ~np.isin(keys(image, index), keys(found.image, found.index))
            found = found.followed_by(self.drawn(image[others], index[others], AGAIN, total))
        return found

    def drawn(self, image: np.ndarray, index: np.ndarray, purpose: int, total: int) -> Extra:
        """As many of the units ``image``, ``index`` (n,) as the share of ``purpose`` is, at random."""
        wanted = self.number(purpose, total)
        if wanted > len(image):
            what = "known answers that were not asked yet" if purpose == GOLD else "earlier queries to repeat"
            say(f"note: {wanted} queries should be {what}, but there are {len(image)}")
        name = "gold" if purpose == GOLD else "repeat"
        rows = np.sort(self.generator(name).choice(len(image), min(wanted, len(image)), replace=False))
        return Extra.of(image[rows], index[rows], purpose)

    def control(self, left: np.ndarray, total: int) -> np.ndarray:
        """(n,) i64 of ``left`` (N,): a simple random sample of what may be queried, the share of ``total`` queries."""
        return np.sort(
            self.generator("control").choice(left, min(self.number(CONTROL, total), len(left)), replace=False)
        )

    def control_pixels(
        self, ids: Sequence[str], sizes: dict[str, Size], excluded: Callable[[int], np.ndarray], total: int
    ) -> Extra:
        """A simple random sample of all pixels of ``ids`` but those ``excluded`` (image -> (H,W) bool)."""
        wanted = self.number(CONTROL, total)
        if not wanted:
            return NOTHING
        free = np.array([int((~excluded(number)).sum()) for number in range(len(ids))])
        end = np.cumsum(free)
        chosen = np.sort(self.generator("control").choice(int(end[-1]), min(wanted, int(end[-1])), replace=False))
        image = np.searchsorted(end, chosen, side="right")
        index = np.zeros(len(chosen), dtype=np.int64)
        for number in np.unique(image).tolist():
            rows = np.flatnonzero(image == number)
            left = np.flatnonzero(~excluded(number).ravel())
            index[rows] = left[chosen[rows] - (end[number] - free[number])]
        return Extra.of(image, index, CONTROL)


def keys(image: np.ndarray, index: np.ndarray) -> np.ndarray:
    """(n,) i64: a number per unit."""
    return image.astype(np.int64) << 32 | index.astype(np.int64)


def answered_units(
    ledger: Annotations, unit: str, scores: Scores, regions: Superpixels | None, once: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """image, index (n,) i64, see `Extra`, of units with an answer in force; ``once``: without those asked again."""
    rows = rows_about(ledger, unit, scores, regions)
    answers = ledger.answers
    rows = rows[ledger.in_force[rows] & (answers.state[rows] != SKIPPED)]
    if once:
        rows = rows[answers.purpose[rows] != AGAIN]
    image, index = places_of(ledger, rows, unit, scores)
    _, first = np.unique(keys(image, index), return_index=True)
    return image[first], index[first]


def units_with(
    ledger: Annotations | None, unit: str, scores: Scores, regions: Superpixels | None, purpose: int
) -> np.ndarray:
    """(n,) i64 `keys` of the units that were queried for ``purpose``."""
    if ledger is None:
        return NONE
    rows = rows_about(ledger, unit, scores, regions)
    return keys(*places_of(ledger, rows[ledger.answers.purpose[rows] == purpose], unit, scores))


def rows_about(ledger: Annotations, unit: str, scores: Scores, regions: Superpixels | None) -> np.ndarray:
    """(n,) i64 rows that name classes of such units of these images; of regions only those in the file ``regions``."""
    answers = ledger.answers
    if unit == "region":
        assert regions is not None
        files = [file.digest for file in ledger.region_files]
        about = answers.of_regions & (
            answers.superpixels == (files.index(regions.digest) if regions.digest in files else -2)
        )
    else:
        about = answers.y >= 0 if unit == "pixel" else answers.image_level == 1
    known = np.array([image in scores.sizes for image in ledger.ids], dtype=bool)
    return np.flatnonzero(about & known[answers.image])


def places_of(ledger: Annotations, rows: np.ndarray, unit: str, scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    """image, index (n,) i64, see `Extra`, of the answers ``rows`` (n,)."""
    answers, place = ledger.answers, {image: number for number, image in enumerate(scores.ids)}
    image = np.array([place.get(name, -1) for name in ledger.ids], dtype=np.int64)[answers.image[rows]]
    if unit == "pixel":
        width = np.array([scores.sizes[name][1] for name in scores.ids], dtype=np.int64)[image]
        return image, answers.y[rows] * width + answers.x[rows]
    return image, answers.region[rows].astype(np.int64) if unit == "region" else image
