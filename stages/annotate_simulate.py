"""The stage `annotate-simulate`: answers queries from the ground truth. The only stage that opens the pool's masks."""

from pathlib import Path

import numpy as np

from stages.artifacts.annotations import (
    ANSWERED,
    ANSWERED_VOID,
    Annotations,
    Answers,
    append_answers,
    ledger_counts,
    number_annotators,
    write_ledger,
)
from stages.artifacts.dataset import VOID, Dataset
from stages.artifacts.hdf5 import Writer, build_in_memory, require_made_from
from stages.artifacts.header import Header
from stages.artifacts.images_table import rows_by_image
from stages.artifacts.publish import publish_bytes
from stages.artifacts.queries import Queries
from stages.artifacts.request import Request, produce, refer
from stages.randomness import stream
from stages.settings.stages import AnnotateSettings

ANNOTATORS = ["oracle", "oracle, in error"]
ORACLE, IN_ERROR = 0, 1


def run(
    dataset: Path,
    queries: Path,
    output: Path,
    settings: AnnotateSettings,
    annotations: Path | None = None,
    force: bool = False,
) -> Path:
    """Publishes the ledger ``annotations`` with the answers to ``queries`` appended.

    Raises BadInput when the queries were not chosen against this ledger, and for a dataset without masks.
    """
    with Dataset(dataset) as data, Queries(queries) as asked:
        require_made_from(asked, "dataset", data)
        before = None if annotations is None else Annotations(annotations)
        asked.require_ledger(before)
        inputs = {"dataset": data, "queries": asked, "annotations": before}
        request = Request("annotate-simulate", "annotations", output, settings, refer(output, inputs))
        return produce(request, lambda: build(request, data, asked, before, settings), force)


def build(
    request: Request, data: Dataset, queries: Queries, before: Annotations | None, settings: AnnotateSettings
) -> str:
    annotators, numbers = number_annotators(before, ANNOTATORS)
    masks = {} if before is None else {image: before.label_map(image) for image in sorted(before.mask_ids())}
    if queries.attributes["answer"] == "mask":
        new = mask_answers(queries, settings, numbers)
        masks |= {queries.ids[index]: data.mask(queries.ids[index]) for index in new.image}
    else:
        new = pixel_answers(data, queries, settings, numbers)
    ids, sizes, ledger = append_answers(before, queries.ids, queries.sizes, new)
    counts = ledger_counts(ledger, new, data.classes)
    counts["wrong"] = int((ledger.annotator == numbers[IN_ERROR]).sum())

    def fill(writer: Writer) -> Header:
        write_ledger(writer, ids, sizes, ledger, annotators, masks)
        return request.header({"classes": data.classes}, counts)

    publish_bytes(request.output, build_in_memory(fill))
    return (
        f"round {queries.attributes['round']}, {len(new)} new answers ({counts['last_round']['void']} void), "
        f"{counts['clicks']:.0f} clicks and {counts['seconds']:.0f} s so far"
    )


def pixel_answers(data: Dataset, queries: Queries, settings: AnnotateSettings, numbers: list[int]) -> Answers:
    """One class per queried pixel; a void pixel costs its click and labels nothing."""
    labels = np.full(len(queries), VOID, dtype=np.uint8)
    annotator = np.full(len(queries), numbers[ORACLE], dtype=np.uint8)
    round_number = queries.attributes["round"]
    for image, rows in rows_by_image(queries.image, queries.ids).items():
        labels[rows] = data.mask(image)[queries.y[rows], queries.x[rows]]
        if settings.error_rate and round_number >= settings.error_from_round:
            generator = stream(settings.seed, "annotator", round_number, image)
            wrong = rows[wrong_rows(labels[rows], settings.error_rate, generator)]
            labels[wrong] = wrong_classes(labels[wrong], len(data.classes), generator)
            annotator[wrong] = numbers[IN_ERROR]
    state = np.where(labels == VOID, ANSWERED_VOID, ANSWERED).astype(np.uint8)
    clicks = np.ones(len(queries), dtype=np.float32)
    return Answers(
        image=queries.image,
        y=queries.y,
        x=queries.x,
        round=np.full(len(queries), round_number, dtype=np.int32),
        label=labels,
        state=state,
        clicks=clicks,
        seconds=clicks * np.float32(settings.seconds_per_click),
        annotator=annotator,
    )


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


def mask_answers(queries: Queries, settings: AnnotateSettings, numbers: list[int]) -> Answers:
    """One row per image answered with its full mask."""
    one = np.ones(len(queries), dtype=np.float32)
    return Answers(
        image=queries.image,
        y=queries.y,
        x=queries.x,
        round=np.full(len(queries), queries.attributes["round"], dtype=np.int32),
        label=np.full(len(queries), VOID, dtype=np.uint8),
        state=np.full(len(queries), ANSWERED, dtype=np.uint8),
        clicks=one * np.float32(settings.clicks_per_mask),
        seconds=one * np.float32(settings.seconds_per_mask),
        annotator=np.full(len(queries), numbers[ORACLE], dtype=np.uint8),
    )
