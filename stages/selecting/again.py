"""Queries of what was answered once, such as the answers that a model contradicts most."""

from typing import Any

import numpy as np

from stages.artifacts.purposes import AGAIN
from stages.artifacts.scores import Scores
from stages.artifacts.superpixels import Superpixels
from stages.runtime.errors import NothingLeft
from stages.selecting.extra import Columns, Mixture, answered_units
from stages.selecting.pool import budget_counts
from stages.selecting.ranking import highest


def choose_again(
    scores: Scores, regions: Superpixels | None, mixture: Mixture, budget: int
) -> tuple[Columns, dict[str, Any]]:
    """Queries (columns in rank order) and counts: the ``budget`` (0: all) answered units with the highest scores.

    Raises NothingLeft if all that was answered was queried again.
    """
    assert mixture.ledger is not None
    image, index = answered_units(mixture.ledger, scores.unit, scores, regions, once=True)
    if not len(image):
        raise NothingLeft("Nothing left to query: everything that was answered was queried again.")
    values = np.zeros(len(image), dtype=np.float32)
    if scores.unit == "pixel":
        for number in np.unique(image).tolist():
            rows = np.flatnonzero(image == number)
            values[rows] = scores.map(scores.ids[number]).ravel()[index[rows]]
    else:
        values[:] = (scores.region_scores() if scores.unit == "region" else scores.image_scores())[index]
    found = highest(values, budget or len(values))
    purpose = np.full(len(found), AGAIN, dtype=np.uint8)
    columns = {"image": image[found], "score": values[found], "purpose": purpose}
    if scores.unit == "pixel":
        width = np.array([scores.sizes[name][1] for name in scores.ids])[columns["image"]]
        columns |= {"y": index[found] // width, "x": index[found] % width}
    elif scores.unit == "region":
        columns["region"] = index[found]
    return columns, budget_counts(budget or len(values), len(found))
