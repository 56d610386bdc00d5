"""Simulated answers to queries of regions: the dominant class, all classes, or exact labels of the pixels."""

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
from stages.settings.annotate_simulate import ClickCost, ErrorSettings, StopSettings, TrimSettings, VoidSettings
from stages.settings.base import existing


@dataclass(frozen=True)
class Sight:
    """What an annotator sees of Q queried regions.

    Their pixels, the true classes of the pixels (Q,C+1), the class sets (Q,C+1) bool if those are queried, and the
    clicks of the answers (Q,). For the header: pixels queried before (Q,), the accuracy that all regions of these
    images could reach, and the source of the polygon vertices that determine the clicks of exact labels.
    """

    areas: Areas
    votes: np.ndarray
    class_sets: np.ndarray
    clicks: np.ndarray
    queried_before: np.ndarray
    achievable_accuracy: float | None
    vertices: str | None


def look_at_regions(
    data: Dataset,
    queries: Queries,
    regions: Superpixels,
    ledger: Annotations | None,
    void: VoidSettings | None,
    sight: TrimSettings | None,
) -> Sight:
    """One pass over the queried images; ``void`` and ``sight`` apply to class sets."""
    images, classes = rows_by_image(queries.image, queries.ids), len(data.classes)
    votes = np.zeros((len(queries), classes + 1), dtype=np.int32)
    class_sets = np.zeros((len(queries), classes + 1), dtype=bool)
    clicks, queried_before = np.ones(len(queries), dtype=np.float32), np.zeros(len(queries), dtype=np.int64)
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
                shown = evidence(mask, labels, int(labels.max()) + 1, classes, existing(sight).trim)[wanted] > 0
                shown[:, -1] &= existing(void).void_policy == "count"
                class_sets[rows], clicks[rows] = shown, np.maximum(shown.sum(1), 1)  # answering "none" is a click too
            if ledger is not None and image in ledger.sizes:
                index, owner = areas[-1].pixels(np.arange(len(rows)))
                covered = ledger.queried_area(image).ravel()[index]
                queried_before[rows] = np.bincount(owner[covered], minlength=len(rows))
            best, known = achievable(every)
            right, pixels = right + best, pixels + known
            bar.advance(len(rows))
    place = np.argsort(
        np.concatenate(list(images.values()))
    )  # of each query among the areas, which are sorted by image
    return Sight(
        joined(areas).taken(place),
        votes,
        class_sets,
        clicks,
        queried_before,
        right / pixels if pixels else None,
        " and ".join(sorted(origins)) or None,
    )


def region_answers(
    data: Dataset,
    queries: Queries,
    regions: Superpixels,
    ledger: Annotations | None,
    click: ClickCost,
    stop: StopSettings,
    errors: ErrorSettings | None,
    void: VoidSettings | None,
    sight: TrimSettings | None,
    click_budget: int | None,
    seed: int,
) -> Answered:
    """The answer to each queried region, until the click budget is spent.

    The dominant class costs a click, a class set one per class, exact labels those of their polygons. ``errors`` apply
    to dominant classes, ``void`` to those and class sets, ``sight`` to class sets.
    """
    seen = look_at_regions(data, queries, regions, ledger, void, sight)
    answered = np.flatnonzero(within_budget(seen.clicks, click_budget, stop.click_stop))
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
        truth = dominant(votes, existing(void).void_policy)
        labels, annotator = with_errors(truth, images, queries.round, len(data.classes), existing(errors), seed)
        state = states(labels)
    new = Answers.of(
        len(answered),
        len(data.classes),
        image=queries.image[answered],
        region=queries.region[answered],
        round=queries.round,
        purpose=queries.purpose[answered],
        label=labels,
        state=state,
        clicks=clicks,
        seconds=clicks * np.float32(click.seconds_per_click),
        annotator=annotator,
        areas=areas,
        votes=votes,
        class_sets=class_sets.astype(np.uint8),
    )
    counts: dict[str, Any] = {
        "pixels": int(votes.sum(dtype=np.int64)),
        "pixels_asked_before": int(seen.queried_before[answered].sum()),
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
    """True labels (H,W) u8 inside the areas, 255 elsewhere, per image; ``images`` maps image to its areas."""
    masks = {}
    for image, rows in images.items():
        index, _ = areas.pixels(rows)
        truth = data.mask(image, queries.sizes[image])
        labels = np.full(truth.shape, VOID, dtype=np.uint8)
        labels.ravel()[index] = truth.ravel()[index]
        if (labels != VOID).any():
            masks[image] = labels
    return masks
