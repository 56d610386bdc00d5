"""Answers about whole images: their masks."""

import numpy as np

from stages.annotation.answered import Answered, within_budget
from stages.artifacts.answers import Answers
from stages.artifacts.dataset import Dataset
from stages.artifacts.queries import Queries
from stages.settings.stages import AnnotateSettings


def mask_answers(data: Dataset, queries: Queries, settings: AnnotateSettings) -> Answered:
    """One row per image answered with its full mask."""
    answered = within_budget(np.full(len(queries), settings.clicks_per_mask), settings.click_budget)
    image = queries.image[answered]
    new = Answers.of(
        len(image),
        len(data.classes),
        image=image,
        round=queries.round,
        clicks=settings.clicks_per_mask,
        seconds=settings.seconds_per_mask,
    )
    return Answered(new, {queries.ids[index]: data.mask(queries.ids[index]) for index in image}, {})
