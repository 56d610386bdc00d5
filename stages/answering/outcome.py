"""The answers people gave as rows of a ledger."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from stages.answering.given import Given
from stages.answering.ledger import append_answers, ledger_counts, publish_ledger
from stages.answering.questions import Questions
from stages.artifacts.annotations import Annotations
from stages.artifacts.answers import ANSWERED, ANSWERED_VOID, SKIPPED, Answers
from stages.artifacts.request import Request
from stages.pixels.void import VOID


def publish_answers(
    request: Request,
    questions: Questions,
    before: Annotations | None,
    new: Answers,
    people: list[str],
    masks: Mapping[str, np.ndarray],
) -> str:
    """Publishes the ledger ``before`` with the rows ``new`` appended, as `append_answers` does it; says what came."""
    queries = questions.queries
    ledger = append_answers(before, queries.ids, queries.sizes, new, people, masks, questions.regions)
    still_open = len(queries) - len(new)
    publish_ledger(
        request, ledger, questions.data, ledger_counts(ledger, new, questions.classes) | {"open": still_open}
    )
    return f"round {queries.round}, {len(new)} answers, {still_open} of the queries still open"


def ledger_rows(
    questions: Questions, given: Mapping[int, Given], seconds: Mapping[int, float]
) -> tuple[Answers, list[str]]:
    """One row per answered query in their order, and the annotators that the rows number.

    ``given`` maps query to its answer, ``seconds`` to the time that all its answers took.
    """
    asked = np.array(sorted(given), dtype=np.int64)
    answers = [given[query] for query in asked.tolist()]
    people = list(dict.fromkeys(answer.annotator for answer in answers))
    named = np.zeros((len(asked), len(questions.classes)), dtype=bool)
    for row, answer in enumerate(answers):
        named[row, list(answer.classes)] = True
    new = answer_rows(
        questions,
        asked,
        named,
        void=np.array([answer.void for answer in answers], dtype=bool),
        skip=np.array([answer.skip for answer in answers], dtype=bool),
        seconds=[seconds[query] for query in asked.tolist()],
        annotator=[people.index(answer.annotator) for answer in answers],
    )
    return new, people


def mask_rows(
    questions: Questions, given: Mapping[int, Given], clicks: float, seconds: float
) -> tuple[Answers, list[str]]:
    """One row per image with a finished mask, at that price each, and the annotators that the rows number."""
    queries, asked = questions.queries, np.array(sorted(given), dtype=np.int64)
    named = [given[query].annotator for query in asked.tolist()]
    people = list(dict.fromkeys(named))
    new = Answers.of(
        len(asked),
        len(questions.classes),
        image=queries.image[asked],
        round=queries.round,
        clicks=clicks,
        seconds=seconds,
        annotator=[people.index(name) for name in named],
    )
    return new, people


def answer_rows(
    questions: Questions, asked: np.ndarray, named: np.ndarray, void: np.ndarray, skip: np.ndarray, **told: Any
) -> Answers:
    """Rows for the queries ``asked`` (n,) that name classes, a click for each class of a set, else one.

    named (n,C) bool, void (n,) bool beside them or alone, skip (n,) bool; ``told`` are further columns. What people
    do not know stays empty: the true classes below a region.
    """
    queries, classes = questions.queries, len(questions.data.classes)
    sets = np.zeros((len(asked), classes + 1), dtype=np.uint8)
    if questions.of_sets:
        sets[:, :-1] = named
        sets[:, -1] = void & (queries.answer == "class-set")
    # Several classes have no label, nor have all classes of an image, be it one
    alone = (named.sum(1) == 1) & ~void & (queries.answer != "image-classes")
    columns: dict[str, Any] = {
        "image": queries.image[asked],
        "round": queries.round,
        "label": np.where(alone, named.argmax(1), VOID),
        "state": np.where(skip, SKIPPED, np.where(named.any(1), ANSWERED, ANSWERED_VOID)),
        "clicks": np.maximum(sets.sum(1), 1),
        "class_sets": sets,
    }
    if queries.unit == "pixel":
        columns |= {"y": queries.y[asked], "x": queries.x[asked]}
    elif queries.unit == "region":
        columns |= {"region": queries.region[asked], "areas": questions.every_area().taken(asked)}
    else:
        columns["image_level"] = 1
    return Answers.of(len(asked), classes, **columns, **told)
