"""Budgets in annotation seconds: what queries take, and as many of them as fit.

A query takes the seconds per click of earlier answers of its kind (a mask: their mean), times the clicks expected of
it. If queries of one kind differ, scores are divided by seconds, so that what is chosen has the most score per second
(Settles, Craven & Friedland 2008, "Active learning with real annotation costs").
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.answers import ANSWERED
from stages.artifacts.scores import Scores
from stages.pixels.void import VOID
from stages.runtime.errors import BadInput
from stages.selecting.candidates import Candidates
from stages.selecting.chooser import Chooser
from stages.settings.select import AssumedSeconds

ROUNDING = 1e-9
"""Share of a budget by which sums of seconds may exceed it."""


@dataclass(frozen=True)
class Allowance:
    """``seconds`` to spend on queries that take those of ``each`` (N,) > 0: pixels (one number), regions, or images."""

    seconds: float
    each: np.ndarray

    def number(self) -> int:
        """How many queries of mean length fit; BadInput if not even one does."""
        return self.at_least_one(int(self.seconds / float(self.each.mean()) * (1 + ROUNDING)))

    def at_least_one(self, number: int) -> int:
        if number < 1:
            raise BadInput(
                f"--budget-seconds {self.seconds:g} pays for no query: one takes {self.each.min():.3g} s or more. "
                "Raise it."
            )
        return number

    def positions(self, chooser: Chooser, pool: Candidates, index: np.ndarray, spent: np.ndarray) -> np.ndarray:
        """(n,) i64 positions in ``pool`` in rank order, as many as the seconds pay for beside the units ``spent``.

        index (N,): the units of the pool. If they differ in seconds, the number is found by bisection, and the rule
        chooses by score per second.
        """
        left, cost = self.seconds - float(self.each[spent].sum()), self.each[index]
        if not len(index):
            return np.zeros(0, dtype=np.int64)
        most = min(len(index), max(int(left / float(cost.min()) * (1 + ROUNDING)), 0))
        if not len(spent):
            self.at_least_one(most)
        if cost.min() == cost.max():
            return chooser.positions(pool, most, "dataset")
        weighed = replace(pool, scores=pool.scores / cost)
        return largest_fitting(
            lambda number: chooser.positions(weighed, number, "dataset"), cost, left * (1 + ROUNDING), most
        )


def largest_fitting(choose: Callable[[int], np.ndarray], cost: np.ndarray, most: float, number: int) -> np.ndarray:
    """What ``choose`` returns for the largest number up to ``number`` whose ``cost`` (N,) sums to at most ``most``.

    Found by bisection: exact if a larger number never costs less, otherwise one that fits.
    """
    found, low, high = np.zeros(0, dtype=np.int64), 0, number
    while low < high:
        middle = (low + high + 1) // 2
        tried = choose(middle)
        if float(cost[tried].sum()) <= most:
            found, low = tried, middle
        else:
            high = middle - 1
    return found


def allowance(
    seconds: float, scores: Scores, ledger: Annotations | None, answer: str, assumed: AssumedSeconds
) -> Allowance:
    """The seconds that queries for ``answer`` take, in the order of the units of ``scores``.

    answer: class (of pixels), dominant, class-set or precise (of regions), mask, image-class or image-classes. BadInput
    if nothing says how many clicks exact labels take.
    """
    rows = np.zeros(0, dtype=np.int64) if ledger is None else np.flatnonzero(of_kind(ledger, answer))
    clicks = took = 0.0
    if ledger is not None:
        clicks = float(ledger.answers.clicks[rows].sum(dtype=np.float64))
        took = float(ledger.answers.seconds[rows].sum(dtype=np.float64))
    if answer == "mask":
        return Allowance(seconds, np.full(len(scores.ids), took / len(rows) if took else assumed.seconds_per_mask))
    rate = took / clicks if took and clicks else assumed.seconds_per_click
    usual = max(clicks / len(rows), 1.0) if len(rows) else 1.0
    if answer == "precise" and not clicks:
        raise BadInput(
            "--budget-seconds needs earlier exact labels to tell what they take. Pass their ledger with --annotations, "
            "or use --budget."
        )
    return Allowance(seconds, rate * expected_clicks(scores, answer, usual))


def expected_clicks(scores: Scores, answer: str, usual: float) -> np.ndarray:
    """(N,) f64 clicks per query, at least 1: one per class that a model expects, or else ``usual``."""
    classes = None
    if answer == "class-set":
        classes = scores.classes_in_regions()
    elif answer == "image-classes":
        classes = scores.classes_in_images()
    if classes is not None:
        return np.maximum(classes, 1.0)
    units = {"region": scores.region_scores, "image": scores.image_scores}.get(scores.unit)
    return np.full(1 if units is None else len(units()), usual)


def of_kind(ledger: Annotations, answer: str) -> np.ndarray:
    """(A,) bool: answers of the kind ``answer``."""
    answers = ledger.answers
    named = answers.class_sets.any(1)
    if answer == "class":
        return answers.y >= 0
    if answer == "mask":
        return answers.of_images
    if answer in ("image-class", "image-classes"):
        return (answers.image_level == 1) & (named == (answer == "image-classes"))
    if answer == "class-set":
        return answers.of_regions & named
    exact = (answers.label == VOID) & (answers.state == ANSWERED)
    return answers.of_regions & ~named & (exact == (answer == "precise"))
