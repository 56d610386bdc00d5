"""Queries of whole images: which ones, and how many in a round."""

from typing import Any

import numpy as np

from stages.acquisition.choice import RULES, highest, pool_size
from stages.acquisition.image_budget import image_budget, next_count
from stages.acquisition.k_centre import k_centre
from stages.acquisition.pool import require_pool
from stages.artifacts.annotations import Annotations
from stages.artifacts.scores import Scores
from stages.errors import BadInput
from stages.settings.stages import SelectSettings


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
        whole = image_budget(
            len(ids), settings.ratio, settings.seed_share, settings.query_share, settings.seed_in_selection
        )
        counts |= {"budget": whole.budget, "seed": whole.seed, "rounds": whole.rounds}
    return {"image": found, "score": values[found]}, counts


def asked_before(ledger: Annotations | None, settings: SelectSettings) -> set[str]:
    """Ids of the images with an answer of the kind that is asked for now."""
    if ledger is None:
        return set()
    if settings.image_answer == "mask":
        return ledger.mask_ids
    return {ledger.ids[index] for index in np.unique(ledger.answers.image[ledger.image_rows])}


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
    whole = image_budget(
        images, settings.ratio, settings.seed_share or 1.0, settings.query_share, settings.seed_in_selection
    )
    if settings.seed_share is None:
        return whole.budget
    selected = 0
    if ledger is not None:
        first = ledger.answers.round[ledger.image_rows].min(initial=round_number)
        counted = ledger.image_rows
        if not settings.seed_in_selection:
            counted = counted[ledger.answers.round[counted] > first]
        selected = len(counted)
    count = next_count(whole, round_number, selected, left)
    if count == 0:
        raise BadInput(
            f"The budget of {whole.budget} images is spent; ask for their masks with --rule answered, or raise --ratio."
        )
    return count


def answered_images(
    ids: list[str], ledger: Annotations | None, left: np.ndarray, settings: SelectSettings
) -> np.ndarray:
    """Numbers of the images ``left`` whose class was answered, in the order of the answers, but for the seed set."""
    if ledger is None or not len(ledger.image_rows):
        raise BadInput(
            "The rule answered asks about images whose class was answered; give the --annotations with them."
        )
    rows = ledger.image_rows
    if not settings.seed_in_selection and (ledger.answers.round[rows] > ledger.answers.round[rows].min()).any():
        rows = rows[ledger.answers.round[rows] > ledger.answers.round[rows].min()]
    place = {image: number for number, image in enumerate(ids)}
    found = [place[ledger.ids[index]] for index in ledger.answers.image[rows] if ledger.ids[index] in place]
    wanted = np.array(list(dict.fromkeys(found)), dtype=np.int64)
    wanted = wanted[np.isin(wanted, left)]
    if not len(wanted):
        raise BadInput("All the images whose class was answered have masks by now.")
    return wanted
