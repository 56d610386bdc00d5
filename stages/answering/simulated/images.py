"""Answers about whole images: their masks, their class, or the classes in them."""

import numpy as np

from stages.answering.simulated.answered import Answered, states, within_budget
from stages.answering.simulated.errors import with_errors
from stages.artifacts.answers import ANSWERED, ANSWERED_VOID, Answers
from stages.artifacts.dataset import Dataset
from stages.artifacts.images_table import rows_by_image
from stages.artifacts.queries import Queries
from stages.datasets.image_labels import classes_present, image_class
from stages.pixels.void import VOID
from stages.settings.annotate_simulate import AnnotateSettings


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


def class_answers(data: Dataset, queries: Queries, settings: AnnotateSettings) -> Answered:
    """The class of each image, a click each: as the dataset has it, else that of most pixels of its mask."""
    images = rows_by_image(queries.image, queries.ids)
    truth = np.full(len(queries), VOID, dtype=np.uint8)
    for image, rows in images.items():
        truth[rows] = image_class(data, image)
    labels, annotator = with_errors(truth, images, queries.round, len(data.image_level_classes), settings)
    answered = within_budget(np.ones(len(queries)), settings.click_budget)
    new = Answers.of(
        int(answered.sum()),
        len(data.classes),
        image=queries.image[answered],
        round=queries.round,
        label=labels[answered],
        state=states(labels[answered]),
        seconds=settings.seconds_per_click,
        annotator=annotator[answered],
        image_level=1,
    )
    return Answered(new, {}, {})


def classes_answers(data: Dataset, queries: Queries, settings: AnnotateSettings) -> Answered:
    """All classes of each image, a click for each of them (spec als4gan.md 1.3, multi-label)."""
    sets = np.zeros((len(queries), len(data.classes) + 1), dtype=np.uint8)
    for image, rows in rows_by_image(queries.image, queries.ids).items():
        sets[rows, :-1] = classes_present(data.mask(image), len(data.classes), settings.presence_share)
    clicks = np.maximum(sets.sum(1), 1).astype(np.float32)  # saying that there is none is a click too
    answered = within_budget(clicks, settings.click_budget, settings.click_stop)
    new = Answers.of(
        int(answered.sum()),
        len(data.classes),
        image=queries.image[answered],
        round=queries.round,
        state=np.where(sets[answered].any(1), ANSWERED, ANSWERED_VOID),
        clicks=clicks[answered],
        seconds=clicks[answered] * np.float32(settings.seconds_per_click),
        class_sets=sets[answered],
        image_level=1,
    )
    return Answered(new, {}, {"mean_set_size": float(sets[answered].sum(1).mean())})
