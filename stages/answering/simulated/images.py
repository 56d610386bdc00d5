"""Simulated answers to queries of images: the mask, the class of the image, or all classes in it."""

import numpy as np

from stages.answering.simulated.answered import Answered, states, within_budget
from stages.answering.simulated.errors import with_errors
from stages.artifacts.answers import ANSWERED, ANSWERED_VOID, Answers
from stages.artifacts.dataset import Dataset
from stages.artifacts.images_table import rows_by_image
from stages.artifacts.queries import Queries
from stages.datasets.image_labels import classes_present, image_class
from stages.pixels.void import VOID
from stages.settings.annotate_simulate import ClickCost, ErrorSettings, MaskCost, PresenceSettings, StopSettings


def mask_answers(data: Dataset, queries: Queries, cost: MaskCost, click_budget: int | None) -> Answered:
    """The full mask of each image."""
    answered = within_budget(np.full(len(queries), cost.clicks_per_mask), click_budget)
    image = queries.image[answered]
    new = Answers.of(
        len(image),
        len(data.classes),
        image=image,
        round=queries.round,
        purpose=queries.purpose[answered],
        clicks=cost.clicks_per_mask,
        seconds=cost.seconds_per_mask,
    )
    return Answered(new, {queries.ids[index]: data.mask(queries.ids[index]) for index in image}, {})


def class_answers(
    data: Dataset, queries: Queries, click: ClickCost, errors: ErrorSettings, click_budget: int | None, seed: int
) -> Answered:
    """The class of each image, one click each: the dataset's own, otherwise that of most pixels of the mask."""
    images = rows_by_image(queries.image, queries.ids)
    truth = np.full(len(queries), VOID, dtype=np.uint8)
    for image, rows in images.items():
        truth[rows] = image_class(data, image)
    labels, annotator = with_errors(truth, images, queries.round, len(data.image_level_classes), errors, seed)
    answered = within_budget(np.ones(len(queries)), click_budget)
    new = Answers.of(
        int(answered.sum()),
        len(data.classes),
        image=queries.image[answered],
        round=queries.round,
        purpose=queries.purpose[answered],
        label=labels[answered],
        state=states(labels[answered]),
        seconds=click.seconds_per_click,
        annotator=annotator[answered],
        image_level=1,
    )
    return Answered(new, {}, {})


def classes_answers(
    data: Dataset,
    queries: Queries,
    click: ClickCost,
    stop: StopSettings,
    presence: PresenceSettings,
    click_budget: int | None,
) -> Answered:
    """All classes in each image, one click per class (als4gan.md 1.3, multi-label)."""
    sets = np.zeros((len(queries), len(data.classes) + 1), dtype=np.uint8)
    for image, rows in rows_by_image(queries.image, queries.ids).items():
        sets[rows, :-1] = classes_present(data.mask(image), len(data.classes), presence.presence_share)
    clicks = np.maximum(sets.sum(1), 1).astype(np.float32)  # answering "none" is a click too
    answered = within_budget(clicks, click_budget, stop.click_stop)
    new = Answers.of(
        int(answered.sum()),
        len(data.classes),
        image=queries.image[answered],
        round=queries.round,
        purpose=queries.purpose[answered],
        state=np.where(sets[answered].any(1), ANSWERED, ANSWERED_VOID),
        clicks=clicks[answered],
        seconds=clicks[answered] * np.float32(click.seconds_per_click),
        class_sets=sets[answered],
        image_level=1,
    )
    return Answered(new, {}, {"mean_set_size": float(sets[answered].sum(1).mean())})
