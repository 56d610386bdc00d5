"""The stage `annotate-simulate`: answers queries from the ground truth. The only stage that opens the pool's masks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.answers import ANSWERED, ANSWERED_VOID, Answers, append_answers, ledger_counts
from stages.artifacts.dataset import VOID, Dataset
from stages.artifacts.hdf5 import Writer, build_in_memory, require_made_from
from stages.artifacts.header import Header
from stages.artifacts.images_table import rows_by_image
from stages.artifacts.publish import publish_bytes
from stages.artifacts.queries import Queries
from stages.artifacts.request import Request, produce, refer
from stages.artifacts.superpixels import Superpixels, require_superpixels
from stages.console import Progress
from stages.randomness import stream
from stages.regions.areas import Areas, areas_of, joined
from stages.regions.votes import achievable_accuracy, dominant, vote
from stages.settings.stages import AnnotateSettings

ANNOTATORS = ["oracle", "oracle, in error"]
ORACLE, IN_ERROR = 0, 1


def run(
    dataset: Path,
    queries: Path,
    output: Path,
    settings: AnnotateSettings,
    annotations: Path | None = None,
    superpixels: Path | None = None,
    force: bool = False,
) -> Path:
    """Publishes the ledger ``annotations`` with the answers to ``queries`` appended.

    Queries of regions need the ``superpixels`` they are of. Raises BadInput when the queries were not chosen against
    this ledger or among these regions, and for a dataset without masks.
    """
    with Dataset(dataset) as data, Queries(queries) as asked:
        require_made_from(asked, "dataset", data)
        before = None if annotations is None else Annotations(annotations)
        asked.require_ledger(before)
        regions = require_superpixels(superpixels, data, asked) if asked.unit == "region" else None
        inputs = {"dataset": data, "queries": asked, "annotations": before, "superpixels": regions}
        request = Request("annotate-simulate", "annotations", output, settings, refer(output, inputs))
        return produce(request, lambda: build(request, data, asked, before, regions, settings), force)


@dataclass(frozen=True)
class Answered:
    """New answers, the exact labels (H,W) u8 per image that came with them, and what is worth counting."""

    answers: Answers
    masks: dict[str, np.ndarray]
    counts: dict[str, Any]


def build(
    request: Request,
    data: Dataset,
    queries: Queries,
    before: Annotations | None,
    regions: Superpixels | None,
    settings: AnnotateSettings,
) -> str:
    if regions is not None:
        answered = region_answers(data, queries, regions, before, settings)
    elif queries.answer == "mask":
        answered = mask_answers(data, queries, settings)
    else:
        answered = pixel_answers(data, queries, settings)
    new = answered.answers
    ledger = append_answers(before, queries.ids, queries.sizes, new, ANNOTATORS, answered.masks, regions)
    counts = ledger_counts(ledger, new, data.classes)
    counts["last_round"] |= answered.counts
    counts["wrong"] = int((ledger.answers.annotator == ledger.annotators.index(ANNOTATORS[IN_ERROR])).sum())

    def fill(writer: Writer) -> Header:
        ledger.write(writer)
        return request.header({"classes": data.classes}, counts)

    publish_bytes(request.output, build_in_memory(fill))
    return (
        f"round {queries.round}, {len(new)} new answers ({counts['last_round']['void']} void), "
        f"{counts['clicks']:.0f} clicks and {counts['seconds']:.0f} s so far"
    )


def within_budget(clicks: np.ndarray, budget: int | None) -> np.ndarray:
    """(Q,) bool: the queries answered until ``budget`` clicks are spent; the last one may overshoot.

    clicks (Q,) in rank order.
    """
    if budget is None:
        return np.ones(len(clicks), dtype=bool)
    return np.cumsum(clicks) - clicks < budget


def with_errors(
    labels: np.ndarray, images: dict[str, np.ndarray], round_number: int, classes: int, settings: AnnotateSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Labels (Q,) u8 with the annotator's errors, and who gave each (Q,) u8; ``images`` maps image to its rows."""
    labels, annotator = labels.copy(), np.full(len(labels), ORACLE, dtype=np.uint8)
    if settings.error_rate and round_number >= settings.error_from_round:
        for image, rows in images.items():
            generator = stream(settings.seed, "annotator", round_number, image)
            wrong = rows[wrong_rows(labels[rows], settings.error_rate, generator)]
            labels[wrong] = wrong_classes(labels[wrong], classes, generator)
            annotator[wrong] = IN_ERROR
    return labels, annotator


def states(labels: np.ndarray) -> np.ndarray:
    """An answer that is void costs its click and labels nothing."""
    return np.where(labels == VOID, ANSWERED_VOID, ANSWERED)


def pixel_answers(data: Dataset, queries: Queries, settings: AnnotateSettings) -> Answered:
    """One class per queried pixel."""
    labels = np.full(len(queries), VOID, dtype=np.uint8)
    images = rows_by_image(queries.image, queries.ids)
    for image, rows in images.items():
        labels[rows] = data.mask(image)[queries.y[rows], queries.x[rows]]
    labels, annotator = with_errors(labels, images, queries.round, len(data.classes), settings)
    answered = within_budget(np.ones(len(queries)), settings.click_budget)
    new = Answers.of(
        int(answered.sum()),
        len(data.classes),
        image=queries.image[answered],
        y=queries.y[answered],
        x=queries.x[answered],
        round=queries.round,
        label=labels[answered],
        state=states(labels[answered]),
        seconds=settings.seconds_per_click,
        annotator=annotator[answered],
    )
    return Answered(new, {}, {})


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


def region_answers(
    data: Dataset, queries: Queries, regions: Superpixels, before: Annotations | None, settings: AnnotateSettings
) -> Answered:
    """The dominant class of every queried region, or exact labels of its pixels at the price of polygons."""
    images = rows_by_image(queries.image, queries.ids)
    votes = np.zeros((len(queries), len(data.classes) + 1), dtype=np.int32)
    clicks = np.ones(len(queries), dtype=np.float32)
    areas: dict[str, Areas] = {}
    best, total, again = 0.0, 0, np.zeros(len(queries), dtype=np.int64)
    with Progress("answering", len(queries)) as bar:
        for image, rows in images.items():
            mask, labels = data.mask(image), regions.labels(image)
            wanted = queries.region[rows] - np.int32(regions.rows[image].start)
            areas[image] = areas_of(labels, wanted)
            index, owner = areas[image].pixels(np.arange(len(rows)))
            votes[rows] = vote(mask.ravel()[index], owner, len(rows), len(data.classes))
            if queries.answer == "precise":
                clicks[rows] = precise_clicks(mask, labels, wanted)
            if before is not None and image in before.sizes:
                asked_before = before.queried_area(image).ravel()[index]
                again[rows] = np.bincount(owner[asked_before], minlength=len(rows))
            inside = labels.ravel() >= 0
            every = vote(mask.ravel()[inside], labels.ravel()[inside], int(labels.max()) + 1, len(data.classes))
            pixels = int(every[:, :-1].sum())
            best, total = best + (achievable_accuracy(every) * pixels if pixels else 0), total + pixels
            bar.advance(len(rows))
    answered = np.flatnonzero(within_budget(clicks, settings.click_budget))
    every_area = joined(list(areas.values()))
    place = np.argsort(np.concatenate(list(images.values())))  # of each query among the areas, which go by image
    truth = dominant(votes, settings.void_policy)
    masks: dict[str, np.ndarray] = {}
    labels, annotator = np.full(len(queries), VOID, dtype=np.uint8), np.full(len(queries), ORACLE, dtype=np.uint8)
    if queries.answer == "precise":
        for image, rows in images.items():
            paid = np.flatnonzero(np.isin(rows, answered))
            index, _ = areas[image].pixels(paid)
            masks[image] = np.full(data.sizes[image], VOID, dtype=np.uint8)
            masks[image].ravel()[index] = data.mask(image).ravel()[index]
        state = np.full(len(queries), ANSWERED)
    else:
        labels, annotator = with_errors(truth, images, queries.round, len(data.classes), settings)
        state = states(labels)
    new = Answers.of(
        len(answered),
        len(data.classes),
        image=queries.image[answered],
        region=queries.region[answered],
        round=queries.round,
        label=labels[answered],
        state=state[answered],
        clicks=clicks[answered],
        seconds=clicks[answered] * np.float32(settings.seconds_per_click),
        annotator=annotator[answered],
        areas=every_area.taken(place[answered]),
        votes=votes[answered],
    )
    counts = {
        "pixels": int(votes[answered].sum(dtype=np.int64)),
        "pixels_asked_before": int(again[answered].sum()),
        "achievable_accuracy": best / total if total else None,  # of all regions of the images asked about
        "label_precision": precision(new),
        "unanswered": len(queries) - len(answered),
    }
    return Answered(new, masks, counts)


def precision(answers: Answers) -> float | None:
    """Share of the non-void pixels in answered regions whose class is the answer; None without any."""
    rows = np.flatnonzero(answers.label != VOID)
    pixels = int(answers.votes[rows, :-1].sum(dtype=np.int64))
    return float(answers.votes[rows, answers.label[rows]].sum(dtype=np.int64) / pixels) if pixels else None


def precise_clicks(mask: np.ndarray, labels: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(Q,) clicks of outlining everything inside the regions ``wanted`` with polygons (Cai et al. 2021)."""
    from stages.regions.clicks import mask_vertices, polygon_clicks

    return polygon_clicks(mask, labels, int(labels.max(initial=-1)) + 1, mask_vertices(mask))[wanted]


def wrong_rows(labels: np.ndarray, rate: float, generator: np.random.Generator) -> np.ndarray:
    """Positions of the answers that go wrong: rate * n of them, a fraction rounded up or down at random.

    Drawn among the non-void answers; n counts all of an image's answers of the round (10 % of 10 is exactly one).
    """
    expected = rate * len(labels)
    count = int(expected + 1e-9)
    count += int(generator.random() < expected - count - 1e-9)
    candidates = np.flatnonzero(labels != VOID)
    return generator.choice(candidates, min(count, len(candidates)), replace=False)


def wrong_classes(labels: np.ndarray, classes: int, generator: np.random.Generator) -> np.ndarray:
    """For each label another class, uniform over the C - 1 others."""
    return ((labels + generator.integers(1, classes, len(labels))) % classes).astype(np.uint8)
