"""How far people agree: with one another on queries asked again, and with known answers (gold).

Cohen's kappa (J. Cohen, Educational and Psychological Measurement, 1960): 1 for full agreement, 0 for that of chance.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.artifacts.annotations import Annotations, units_of
from stages.artifacts.answers import SKIPPED, Answers
from stages.artifacts.purposes import AGAIN, GOLD
from stages.artifacts.queries import Queries
from stages.pixels.void import VOID
from stages.runtime.errors import BadInput

SIMULATED = ", in error"  # what `annotate-simulate` adds to the name of its one annotator


@dataclass(frozen=True)
class Ratings:
    """Two answers to each of n queries: classes named (n,C+1) bool, void last, by the people ``who`` (n,) str."""

    first: np.ndarray
    second: np.ndarray
    who: np.ndarray

    def of(self, chosen: np.ndarray) -> "Ratings":
        return Ratings(self.first[chosen], self.second[chosen], self.who[chosen])


@dataclass(frozen=True)
class Agreed:
    """Of ``queries`` answered twice the share with equal answers, kappa, and kappa per class; None if undefined."""

    who: str
    queries: int
    share: float
    kappa: float | None
    classes: dict[str, float | None]


def kappa(first: np.ndarray, second: np.ndarray) -> float | None:
    """Cohen's kappa of two lists of categories (n,); None if both name one category only."""
    from sklearn.metrics import cohen_kappa_score

    if not len(first) or len(np.unique(np.concatenate([first, second]))) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(cohen_kappa_score(first, second))


def agreed(ratings: Ratings, who: str, classes: Sequence[str]) -> Agreed:
    """The agreement of ``ratings``; per class whether it was named or not."""
    both = np.concatenate([ratings.first, ratings.second])
    codes = np.unique(both, axis=0, return_inverse=True)[1].reshape(2, -1)
    named = np.asarray(both.any(0))
    found = {
        name: kappa(ratings.first[:, index], ratings.second[:, index])
        for index, name in enumerate([*classes, "void"])
        if named[index]
    }
    return Agreed(who, codes.shape[1], float((codes[0] == codes[1]).mean()), kappa(*codes), found)


def named_classes(answers: Answers, rows: np.ndarray, classes: int) -> np.ndarray:
    """(n,C+1) bool: the classes that the answers ``rows`` (n,) name, void last."""
    found = np.zeros((len(rows), classes + 1), dtype=bool)
    width = min(answers.class_sets.shape[1], classes + 1)
    found[:, :width] |= answers.class_sets[rows][:, :width].astype(bool)
    label = answers.label[rows]
    single = np.flatnonzero(label != VOID)
    found[single, label[single]] = True
    found[~found.any(1), -1] = True
    return found


def repeated(ledger: Annotations) -> Ratings:
    """Each pair of successive answers to the same query, without "don't know" and gold.

    Rounds that only ask again are left out: they ask about the answers that a model contradicts.
    """
    answers = ledger.answers
    others = np.bincount(answers.round, answers.purpose != AGAIN, answers.round.max(initial=-1) + 1)
    usable = (answers.purpose != GOLD) & (answers.state != SKIPPED) & (others[answers.round] > 0)
    rows = np.flatnonzero(usable & of_one_kind(ledger))
    unit = units_of(answers)[rows]
    order = np.argsort(unit, kind="stable")
    next_one = np.flatnonzero((unit[order][1:] == unit[order][:-1]) & (answers.purpose[rows[order][1:]] == AGAIN))
    return ratings_of(ledger, rows[order][next_one], rows[order][next_one + 1])


def ratings_of(ledger: Annotations, first: np.ndarray, second: np.ndarray) -> Ratings:
    """The answers in the rows ``first`` and ``second`` (n,), in the order of the names of their annotators."""
    answers, classes = ledger.answers, len(class_names(ledger))
    names = np.array([name.removesuffix(SIMULATED) for name in ledger.annotators], dtype=object)
    one, other = (names[answers.annotator[rows]] for rows in (first, second))
    swapped = one > other
    who = np.where(one == other, one + ", twice", np.where(swapped, other + " and " + one, one + " and " + other))
    first, second = np.where(swapped, second, first), np.where(swapped, first, second)
    return Ratings(named_classes(answers, first, classes), named_classes(answers, second, classes), who)


def people_of(ledger: Annotations) -> list[Agreed]:
    """The agreement over all queries answered twice, and by pairs of people; empty without such queries."""
    return summarised(repeated(ledger), "all", class_names(ledger))


def gold_of(ledger: Annotations) -> list[Agreed]:
    """The agreement with known answers, of all people and of each; empty if none were asked or found."""
    given = (ledger.answers.purpose == GOLD) & (ledger.answers.state != SKIPPED)
    given = np.flatnonzero(given & of_one_kind(ledger))
    ratings = [beside(ledger, given, gold) for gold in (gold_ledgers(ledger) if len(given) else [])]
    if not ratings:
        return []
    joined = Ratings(
        *(np.concatenate([getattr(each, name) for each in ratings]) for name in ("first", "second", "who"))
    )
    return summarised(joined, "all", class_names(ledger))


def class_names(ledger: Annotations) -> list[str]:
    """The classes that the answers name: those of images if all answers are about whole images."""
    return ledger.image_classes if ledger.answers.image_level.all() else ledger.attributes["classes"]


def of_one_kind(ledger: Annotations) -> np.ndarray:
    """(A,) bool: the answers that name `class_names`."""
    level = ledger.answers.image_level
    return level == level.min(initial=1)


def summarised(ratings: Ratings, everybody: str, classes: Sequence[str]) -> list[Agreed]:
    """The agreement of all, and of each of ``who`` if there are several."""
    if not len(ratings.who):
        return []
    people = sorted(set(ratings.who.tolist()))
    found = [agreed(ratings, everybody if len(people) > 1 else people[0], classes)]
    return found + ([agreed(ratings.of(ratings.who == who), who, classes) for who in people] if len(people) > 1 else [])


def gold_ledgers(ledger: Annotations) -> list[Annotations]:
    """The ledgers of known answers that the queries of this ledger were selected with, as far as they are there."""
    found: dict[str, Annotations] = {}
    here: Annotations | None = ledger
    while here is not None:
        queries, before = here.header.inputs.get("queries"), here.header.inputs.get("annotations")
        try:
            if queries is not None:
                path = queries.path(here.path)
                with Queries(path) as asked:
                    gold = asked.header.inputs.get("gold")
                if gold is not None and gold.digest not in found:
                    found[gold.digest] = Annotations(gold.path(path))
            here = None if before is None else Annotations(before.path(here.path))
        except BadInput:  # moved or removed since
            here = None
    return [each for digest, each in found.items() if each.digest == digest]


def beside(ledger: Annotations, rows: np.ndarray, gold: Annotations) -> Ratings:
    """The known answers ``gold`` beside the answers ``rows`` (n,) of people, for queries that both are about."""
    known = np.flatnonzero(gold.in_force & (gold.answers.state != SKIPPED))
    image = np.array([ledger.ids.index(name) if name in ledger.sizes else -1 for name in gold.ids], dtype=np.int64)
    files = [file.digest for file in ledger.region_files]
    numbers = [files.index(each.digest) if each.digest in files else -2 for each in gold.region_files]
    file = np.array([*numbers, -1], dtype=np.int64)  # the last one for answers that are about no region
    theirs, ours = gold.answers, ledger.answers
    mine = ours.image, ours.y, ours.x, ours.region, ours.superpixels, ours.image_level
    other = image[theirs.image], theirs.y, theirs.x, theirs.region, file[theirs.superpixels], theirs.image_level
    places = [np.stack(other, 1)[known], np.stack(mine, 1)[rows]]
    code = np.unique(np.concatenate(places), axis=0, return_inverse=True)[1].reshape(-1)
    source, place = np.unique(code[: len(known)], return_index=True)
    found = np.isin(code[len(known) :], source)
    right = known[place[np.searchsorted(source, code[len(known) :][found])]]
    classes = len(class_names(ledger))
    names = np.array([name.removesuffix(SIMULATED) for name in ledger.annotators], dtype=object)
    who = names[ours.annotator[rows[found]]]
    return Ratings(named_classes(theirs, right, classes), named_classes(ours, rows[found], classes), who)
