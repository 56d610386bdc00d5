"""Answers about regions: their dominant class, all their classes, or exact labels of their pixels."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.answering.clicks import precise_clicks
from stages.answering.simulated.answered import ORACLE, Answered, states, within_budget
from stages.answering.simulated.errors import with_errors
from stages.answering.simulated.trimming import evidence
from stages.artifacts.annotations import Annotations
from stages.artifacts.answers import ANSWERED, ANSWERED_VOID, Answers
from stages.artifacts.dataset import Dataset
from stages.artifacts.images_table import rows_by_image
from stages.artifacts.queries import Queries
from stages.artifacts.superpixels import Superpixels
from stages.pixels.runs import Areas, areas_of, joined
from stages.pixels.void import VOID
from stages.regions.votes import achievable, dominant, label_precision, vote_all
from stages.runtime.console import Progress
from stages.settings.annotate_simulate import AnnotateSettings


@dataclass(frozen=True)
class Sight:
    """What an annotator sees of Q queried regions.

    Their pixels, the true classes below (Q,C+1), where classes are named together the sets (Q,C+1) bool, and the clicks
    of the answers (Q,). And what is worth counting: pixels asked before (Q,), the accuracy that all regions of these
    images could reach, and where the vertices come from that exact answers cost.
    """

    areas: Areas
    votes: np.ndarray
    class_sets: np.ndarray
    clicks: np.ndarray
    asked_before: np.ndarray
    achievable_accuracy: float | None
    vertices: str | None


def look_at_regions(
    data: Dataset, queries: Queries, regions: Superpixels, before: Annotations | None, settings: AnnotateSettings
) -> Sight:
    """One pass over the images with queries."""
    images, classes = rows_by_image(queries.image, queries.ids), len(data.classes)
    votes = np.zeros((len(queries), classes + 1), dtype=np.int32)
    class_sets = np.zeros((len(queries), classes + 1), dtype=bool)
    clicks, asked_before = np.ones(len(queries), dtype=np.float32), np.zeros(len(queries), dtype=np.int64)
    areas: list[Areas] = []
    origins: set[str] = set()
    right = pixels = 0
    with Progress("answering", len(queries)) as bar:
        for image, rows in images.items():
            labels = regions.labels(image)
            mask = data.mask(image, queries.sizes[image])
            wanted = queries.region[rows] - np.int32(regions.rows[image].start)
            areas.append(areas_of(labels, wanted))
            every = vote_all(mask, labels, int(labels.max()) + 1, classes)
            votes[rows] = every[wanted]
            if queries.answer == "precise":
                vertices = data.vertices(image, queries.sizes[image])
                origins.add("estimated from masks" if vertices is None else "polygon files")
                clicks[rows] = precise_clicks(mask, labels, wanted, vertices)
            elif queries.answer == "class-set":
                shown = evidence(mask, labels, int(labels.max()) + 1, classes, settings.trim)[wanted] > 0
                shown[:, -1] &= settings.void_policy == "count"
                class_sets[rows], clicks[rows] = shown, np.maximum(shown.sum(1), 1)  # saying "none" is a click too
            if before is not None and image in before.sizes:
                index, owner = areas[-1].pixels(np.arange(len(rows)))
                covered = before.queried_area(image).ravel()[index]
                asked_before[rows] = np.bincount(owner[covered], minlength=len(rows))
            best, known = achievable(every)
            right, pixels = right + best, pixels + known
            bar.advance(len(rows))
    place = np.argsort(np.concatenate(list(images.values())))  # of each query among the areas, which go by image
    return Sight(
        joined(areas).taken(place),
        votes,
        class_sets,
        clicks,
        asked_before,
        right / pixels if pixels else None,
        " and ".join(sorted(origins)) or None,
    )


def region_answers(
    data: Dataset, queries: Queries, regions: Superpixels, before: Annotations | None, settings: AnnotateSettings
) -> Answered:
    """What was asked of every queried region, until the click budget is spent.

    The dominant class costs a click, every class of a set one, exact labels of all pixels those of polygons.
    """
    seen = look_at_regions(data, queries, regions, before, settings)
    answered = np.flatnonzero(within_budget(seen.clicks, settings.click_budget, settings.click_stop))
    areas, votes, clicks = seen.areas.taken(answered), seen.votes[answered], seen.clicks[answered]
    images = rows_by_image(queries.image[answered], queries.ids)
    class_sets = seen.class_sets[answered]
    masks: dict[str, np.ndarray] = {}
    labels, annotator = np.full(len(answered), VOID), np.full(len(answered), ORACLE)
    state = np.full(len(answered), ANSWERED)
    if queries.answer == "precise":
        masks = exact_labels(data, queries, images, areas)
    elif queries.answer == "class-set":
        alone = class_sets[:, :-1].any(1) & (class_sets.sum(1) == 1)
        labels[alone] = class_sets[alone].argmax(1)
        state[~class_sets[:, :-1].any(1)] = ANSWERED_VOID
    else:
        truth = dominant(votes, settings.void_policy)
        labels, annotator = with_errors(truth, images, queries.round, len(data.classes), settings)
        state = states(labels)
    new = Answers.of(
        len(answered),
        len(data.classes),
        image=queries.image[answered],
        region=queries.region[answered],
        round=queries.round,
        label=labels,
        state=state,
        clicks=clicks,
        seconds=clicks * np.float32(settings.seconds_per_click),
        annotator=annotator,
        areas=areas,
        votes=votes,
        class_sets=class_sets.astype(np.uint8),
    )
    counts: dict[str, Any] = {
        "pixels": int(votes.sum(dtype=np.int64)),
        "pixels_asked_before": int(seen.asked_before[answered].sum()),
        "achievable_accuracy": seen.achievable_accuracy,
        "label_precision": label_precision(votes, new.label),
        "unanswered": len(queries) - len(answered),
    }
    if queries.answer == "precise":
        counts["vertices"] = seen.vertices
    if queries.answer == "class-set":
        counts["mean_set_size"] = float(class_sets.sum(1).mean())
    return Answered(new, masks, counts)


def exact_labels(data: Dataset, queries: Queries, images: dict[str, np.ndarray], areas: Areas) -> dict[str, np.ndarray]:
    """Per image the true labels (H,W) u8 inside the areas, 255 elsewhere; ``images`` maps image to its areas."""
    masks = {}
    for image, rows in images.items():
        index, _ = areas.pixels(rows)
        truth = data.mask(image, queries.sizes[image])
        labels = np.full(truth.shape, VOID, dtype=np.uint8)
        labels.ravel()[index] = truth.ravel()[index]
        if (labels != VOID).any():
            masks[image] = labels
    return masks
