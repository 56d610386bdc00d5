"""Queries of whole images: which ones, and how many in a round."""

from typing import Any

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.scores import Scores
from stages.runtime.errors import BadInput
from stages.selecting.choice import RULES, highest, pool_size
from stages.selecting.image_budget import ImageBudget, image_budget, next_count
from stages.selecting.k_centre import k_centre
from stages.selecting.pool import require_pool
from stages.settings.select import SelectSettings


def choose_images(
    scores: Scores,
    ledger: Annotations | None,
    settings: SelectSettings,
    round_number: int,
    generator: np.random.Generator,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Image queries (columns image and score in rank order) and counts.

    Asked are images that the ledger has no answer of this kind about: a mask, or the classes of the image.
    """
    values, ids = scores.image_scores(), scores.ids
    done = asked_before(ledger, settings)
    left = np.array([number for number, image in enumerate(ids) if image not in done], dtype=np.int64)
    if settings.rule == "answered":
        found = answered_images(ids, ledger, left, settings)
    else:
        budget = round_budget(len(ids), len(left), ledger, settings, round_number)
        require_pool(budget, len(left), "images")
        found = left[pick(values[left], left, budget, scores, settings, generator)]
    counts = {"queries": len(found), "images": len(found)}
    if settings.ratio is not None and settings.seed_share is not None:
        whole = whole_budget(len(ids), settings)
        counts |= {"budget": whole.budget, "seed": whole.seed, "rounds": whole.rounds}
    return {"image": found, "score": values[found]}, counts


def rows_asked(ledger: Annotations | None, settings: SelectSettings) -> np.ndarray:
    """Row numbers of the answers of the kind that is asked for now, oldest first."""
    if ledger is None:
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero(ledger.answers.of_images) if settings.image_answer == "mask" else ledger.image_rows


def asked_before(ledger: Annotations | None, settings: SelectSettings) -> set[str]:
    """Ids of the images with an answer of the kind that is asked for now."""
    rows = rows_asked(ledger, settings)
    return set() if ledger is None else {ledger.ids[index] for index in np.unique(ledger.answers.image[rows])}


def pick(
    values: np.ndarray,
    left: np.ndarray,
    budget: int,
    scores: Scores,
    settings: SelectSettings,
    generator: np.random.Generator,
) -> np.ndarray:
    """Positions of ``budget`` of the images ``left``, best first; ``values`` are their scores."""
    pool = pool_size(len(scores.ids), settings.fraction)
    if settings.rule == "k-centre":
        features = scores.image_features()
        if pool <= budget < len(left):
            raise BadInput(
                f"k-centre asks about {budget} images and may choose among the {pool} most uncertain ones (--fraction "
                f"{settings.fraction:g}), which is no choice; raise --fraction, such as to 0.5."
            )
        candidates, labelled = np.zeros(len(features), dtype=bool), np.ones(len(features), dtype=bool)
        candidates[left[highest(values, max(pool, budget))]] = True
        labelled[left] = False
        chosen = k_centre(features, labelled, candidates, budget)
        return np.searchsorted(left, chosen)
    if settings.rule not in RULES:
        raise BadInput(f"The rule {settings.rule} does not choose among images; set top, pool, uniform or k-centre.")
    found = np.sort(RULES[settings.rule](values, budget, pool, generator))
    return found[np.argsort(-values[found], kind="stable")]


def round_budget(
    images: int, left: int, ledger: Annotations | None, settings: SelectSettings, round_number: int
) -> int:
    """How many images this round asks about (spec als4gan.md 2.1)."""
    if settings.ratio is None:
        return settings.budget or left
    whole = whole_budget(images, settings)
    rows = rows_asked(ledger, settings)
    rounds = np.zeros(0, dtype=np.int64) if ledger is None else ledger.answers.round[rows]
    if settings.seed_share is None:
        count = min(whole.budget - len(rounds), left)
    else:
        first = int(rounds.min(initial=round_number))
        selected = len(rounds) if settings.seed_in_selection else int((rounds > first).sum())
        count = next_count(whole, round_number - first, selected, left)
    if count <= 0:
        masks = "" if settings.image_answer == "mask" else "ask for their masks with --rule answered, or "
        raise BadInput(f"The budget of {whole.budget} images is spent; {masks}raise --ratio.")
    return count


def whole_budget(images: int, settings: SelectSettings) -> ImageBudget:
    """The budget of ``settings`` with a ratio, all of it a seed set where there is no share of one.

    BadInput where the images do not suffice.
    """
    assert settings.ratio is not None
    share, counts = settings.seed_share, settings.seed_in_selection
    try:
        return image_budget(
            images, settings.ratio, 1.0 if share is None else share, settings.query_share, share is None or counts
        )
    except ValueError as error:
        raise BadInput(f"The budget of images cannot be met: {error}.") from error


def answered_images(
    ids: list[str], ledger: Annotations | None, left: np.ndarray, settings: SelectSettings
) -> np.ndarray:
    """Numbers of the images ``left`` whose class was answered, in the order of the answers, but for the seed set."""
    if settings.image_answer != "mask":
        raise BadInput("The rule answered asks for masks of images whose class was answered; set --image-answer mask.")
    if ledger is None or not len(ledger.image_rows):
        raise BadInput(
            "The rule answered asks about images whose class was answered; give the --annotations with them."
        )
    rows = ledger.image_rows
    beside_seed = ledger.answers.round[rows] > ledger.answers.round[rows].min()
    if not settings.seed_in_selection and beside_seed.any():
        rows = rows[beside_seed]
    place = {image: number for number, image in enumerate(ids)}
    found = [place[ledger.ids[index]] for index in ledger.answers.image[rows] if ledger.ids[index] in place]
    wanted = np.array(list(dict.fromkeys(found)), dtype=np.int64)
    wanted = wanted[np.isin(wanted, left)]
    if not len(wanted):
        raise BadInput("All the images whose class was answered have masks by now.")
    return wanted
