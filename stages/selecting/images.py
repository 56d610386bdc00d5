"""Queries of whole images: which ones, and how many in a round."""

from collections.abc import Callable
from typing import Any

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.purposes import AGAIN, CONTROL
from stages.artifacts.scores import Scores
from stages.runtime.errors import BadInput, NothingLeft
from stages.selecting.candidates import Candidates
from stages.selecting.chooser import Chooser
from stages.selecting.extra import NOTHING, Columns, Extra, Mixture
from stages.selecting.image_budget import ImageBudget, next_count, whole_budget
from stages.selecting.pool import budget_counts
from stages.selecting.seconds import Allowance
from stages.settings.select import ImageQueries, SeedSettings


def choose_images(
    scores: Scores,
    ledger: Annotations | None,
    settings: ImageQueries,
    counted: int,
    budget: int,
    chooser: Chooser,
    mixture: Mixture,
    allowed: Allowance | None = None,
) -> tuple[Columns, dict[str, Any]]:
    """Queries (columns image and score in rank order) and counts. The budget may be the seconds of ``allowed``.

    The pool is the images without an answer of this kind in the ledger: a mask, or the classes of the image. A ratio
    refers to ``counted`` images.
    """
    values, ids = scores.image_scores(), scores.ids
    queried = queried_images(ids, ledger, settings.image_answer)
    whole = None if settings.share is None else whole_budget(counted, settings, len(ids))
    extra, left = NOTHING, np.flatnonzero(~queried)
    if chooser.keeps_to_budget:
        budget = budget if allowed is None else allowed.number()
        budget = round_budget(whole, len(left), ledger, settings, budget, chooser.round)
        extra = mixture.known("image", scores, None, budget)
        left = np.setdiff1d(left, extra.index)
        random = mixture.control(left, budget)
        extra, left = extra.followed_by(Extra.of(random, random, CONTROL)), np.setdiff1d(left, random)
    lazy: dict[str, Callable[[], Any]] = {
        "features": lambda: scores.image_features()[left],
        "queried_features": lambda: scores.image_features()[queried],
        "predicted": lambda: scores.image_classes()[left],
        "answered": lambda: np.searchsorted(left, answered_images(ids, ledger, left, settings)),
    }
    pool = Candidates(unit="image", scores=values[left], image=left, total=len(ids), round=chooser.round, lazy=lazy)
    if allowed is None:
        positions = chooser.positions(pool, max(budget - len(extra.index), 0), "dataset")
    else:
        positions = allowed.positions(chooser, pool, left, extra.index)
        budget = len(extra.index) + len(positions) if len(positions) < len(left) else budget
    found = left[positions]
    counts = chooser.described(pool, budget)
    if chooser.keeps_to_budget:
        counts |= budget_counts(budget, len(found) + len(extra.index))
    if whole is not None and spread(settings) is not None:
        counts |= {"budget": whole.budget, "seed": whole.seed, "rounds": whole.rounds}
    own = {"image": extra.image, "score": values[extra.index]}
    return extra.before({"image": found, "score": values[found]}, own), counts


def rows_queried(ledger: Annotations | None, image_answer: str) -> np.ndarray:
    """Row numbers of the first answers of this kind about each image, oldest first."""
    if ledger is None:
        return np.zeros(0, dtype=np.int64)
    answers = ledger.answers
    of_kind = answers.of_images if image_answer == "mask" else answers.image_level == 1
    return np.flatnonzero(of_kind & (answers.purpose < AGAIN))


def queried_images(ids: list[str], ledger: Annotations | None, image_answer: str) -> np.ndarray:
    """(N,) bool: images with an answer of this kind."""
    if ledger is None:
        return np.zeros(len(ids), dtype=bool)
    rows = rows_queried(ledger, image_answer)
    done = {ledger.ids[index] for index in np.unique(ledger.answers.image[rows])}
    return np.array([image in done for image in ids], dtype=bool)


def round_budget(
    whole: ImageBudget | None,
    left: int,
    ledger: Annotations | None,
    settings: ImageQueries,
    budget: int,
    round_number: int,
) -> int:
    """How many images this round queries (spec als4gan.md 2.1); without a whole budget, ``budget`` or all ``left``."""
    if whole is None or not left:
        return budget or left
    spent = spread(settings)
    rows = rows_queried(ledger, settings.image_answer)
    rounds = np.zeros(0, dtype=np.int64) if ledger is None else ledger.answers.round[rows]
    if spent is None:
        count = min(whole.budget - len(rounds), left)
    else:
        first = int(rounds.min(initial=round_number))
        selected = len(rounds) if spent.seed_in_selection else int((rounds > first).sum())
        count = next_count(whole, round_number - first, selected, left)
    if count <= 0:
        masks = "" if settings.image_answer == "mask" else "Query their masks with --rule answered, or raise --ratio."
        raise NothingLeft(f"The budget of {whole.budget} images is spent. {masks or 'Raise --ratio.'}")
    return count


def answered_images(ids: list[str], ledger: Annotations | None, left: np.ndarray, settings: ImageQueries) -> np.ndarray:
    """Numbers of the images ``left`` whose class was answered, in the order of the answers, except the seed set."""
    if settings.image_answer != "mask":
        raise BadInput("--rule answered queries masks. Set --image-answer mask.")
    if ledger is None or not len(ledger.image_rows):
        raise BadInput("No image has an answered class yet. Pass --annotations with answers about classes of images.")
    rows = ledger.image_rows
    beside_seed = ledger.answers.round[rows] > ledger.answers.round[rows].min()
    if not seed_counts(settings) and beside_seed.any():
        rows = rows[beside_seed]
    place = {image: number for number, image in enumerate(ids)}
    found = [place[ledger.ids[index]] for index in ledger.answers.image[rows] if ledger.ids[index] in place]
    wanted = np.array(list(dict.fromkeys(found)), dtype=np.int64)
    wanted = wanted[np.isin(wanted, left)]
    if not len(wanted):
        raise NothingLeft("Nothing left to query: every image with an answered class already has a mask.")
    return wanted


def spread(settings: ImageQueries) -> SeedSettings | None:
    """How the budget is spread over rounds; None if it is not."""
    return None if settings.share is None else settings.share.spent


def seed_counts(settings: ImageQueries) -> bool:
    """Whether the seed set counts towards the budget."""
    spent = spread(settings)
    return spent is not None and spent.seed_in_selection
