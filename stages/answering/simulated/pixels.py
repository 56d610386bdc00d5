"""Simulated answers to queries of pixels: the class."""

import numpy as np

from stages.answering.simulated.answered import Answered, states, within_budget
from stages.answering.simulated.errors import with_errors
from stages.artifacts.answers import Answers
from stages.artifacts.dataset import Dataset
from stages.artifacts.images_table import rows_by_image
from stages.artifacts.queries import Queries
from stages.pixels.void import VOID
from stages.settings.annotate_simulate import ClickCost, ErrorSettings


def pixel_answers(
    data: Dataset, queries: Queries, click: ClickCost, errors: ErrorSettings, click_budget: int | None, seed: int
) -> Answered:
    """The class of each queried pixel, one click each."""
    labels = np.full(len(queries), VOID, dtype=np.uint8)
    images = rows_by_image(queries.image, queries.ids)
    for image, rows in images.items():
        labels[rows] = data.mask(image, queries.sizes[image])[queries.y[rows], queries.x[rows]]
    labels, annotator = with_errors(labels, images, queries.round, len(data.classes), errors, seed)
    answered = within_budget(np.ones(len(queries)), click_budget)
    new = Answers.of(
        int(answered.sum()),
        len(data.classes),
        image=queries.image[answered],
        y=queries.y[answered],
        x=queries.x[answered],
        round=queries.round,
        purpose=queries.purpose[answered],
        label=labels[answered],
        state=states(labels[answered]),
        seconds=click.seconds_per_click,
        annotator=annotator[answered],
    )
    return Answered(new, {}, {})
