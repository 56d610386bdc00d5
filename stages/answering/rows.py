"""Answers of people as rows of the ledger."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.answering.answer import Answer
from stages.answering.ledger import append_answers, ledger_counts, publish_ledger
from stages.answering.questions import Questions
from stages.artifacts.annotations import Annotations
from stages.artifacts.answers import ANSWERED, ANSWERED_VOID, SKIPPED, Answers
from stages.artifacts.request import Request
from stages.pixels.void import VOID


def publish_answers(
    request: Request,
    questions: Questions,
    ledger: Annotations | None,
    new: Answers,
    people: list[str],
    masks: Mapping[str, np.ndarray],
    told: Mapping[str, Any] | None = None,
) -> str:
    """Publishes ``ledger`` with the rows ``new`` and ``masks`` (see `append_answers`); returns a summary.

    ``told`` are further counts of its header.
    """
    queries = questions.queries
    grown = append_answers(ledger, queries.ids, queries.sizes, new, people, masks, questions.regions)
    still_open = len(queries) - len(new)
    counts = ledger_counts(grown, new, questions.classes) | {"open": still_open} | dict(told or {})
    publish_ledger(request, grown, questions.data, counts)
    return f"round {queries.round}, {len(new)} answers, {still_open} queries open"


def ledger_rows(
    questions: Questions, answers: Mapping[int, Answer], seconds: Mapping[int, float]
) -> tuple[Answers, list[str]]:
    """One row per answered query, in the order of the queries, and the annotators that the rows refer to.

    ``answers`` maps a query to its answer, ``seconds`` to the total time of its answers.
    """
    queries = sorted(answers)
    ordered = [answers[query] for query in queries]
    people = list(dict.fromkeys(answer.annotator for answer in ordered))
    named = np.zeros((len(queries), len(questions.classes)), dtype=bool)
    for row, answer in enumerate(ordered):
        named[row, list(answer.classes)] = True
    new = answer_rows(
        questions,
        np.array(queries, dtype=np.int64),
        named,
        void=np.array([answer.void for answer in ordered], dtype=bool),
        skip=np.array([answer.skip for answer in ordered], dtype=bool),
        seconds=[seconds[query] for query in queries],
        annotator=[people.index(answer.annotator) for answer in ordered],
        suggested=[answer.suggested if answer.suggested >= 0 else VOID for answer in ordered],
    )
    return new, people


@dataclass(frozen=True)
class Cost:
    """Clicks and seconds of each query."""

    clicks: Mapping[int, float]
    seconds: Mapping[int, float]


def mask_rows(questions: Questions, answers: Mapping[int, Answer], cost: Cost) -> tuple[Answers, list[str]]:
    """One row per finished mask, and the annotators that the rows refer to."""
    queries, answered = questions.queries, np.array(sorted(answers), dtype=np.int64)
    named = [answers[query].annotator for query in answered.tolist()]
    people = list(dict.fromkeys(named))
    new = Answers.of(
        len(answered),
        len(questions.classes),
        image=queries.image[answered],
        round=queries.round,
        purpose=queries.purpose[answered],
        clicks=[cost.clicks[query] for query in answered.tolist()],
        seconds=[cost.seconds[query] for query in answered.tolist()],
        annotator=[people.index(name) for name in named],
    )
    return new, people


def answer_rows(
    questions: Questions, answered: np.ndarray, named: np.ndarray, void: np.ndarray, skip: np.ndarray, **columns: Any
) -> Answers:
    """Rows of class answers to the queries ``answered`` (n,); one click each, or one per class of a set.

    named (n,C) bool, void (n,) bool with classes or alone, skip (n,) bool; ``columns`` are further columns. The column
    of the true classes of a region's pixels stays empty, because people do not give them.
    """
    queries, classes = questions.queries, len(questions.data.classes)
    sets = np.zeros((len(answered), classes + 1), dtype=np.uint8)
    if questions.of_sets:
        sets[:, :-1] = named
        sets[:, -1] = void & (queries.answer == "class-set")
    # A set of several classes is not a label, and neither is the set of an image, even if it has one class
    alone = (named.sum(1) == 1) & ~void & (queries.answer != "image-classes")
    columns |= {
        "image": queries.image[answered],
        "round": queries.round,
        "purpose": queries.purpose[answered],
        "label": np.where(alone, named.argmax(1), VOID),
        "state": np.where(skip, SKIPPED, np.where(named.any(1), ANSWERED, ANSWERED_VOID)),
        "clicks": np.maximum(sets.sum(1), 1),
        "class_sets": sets,
    }
    if queries.unit == "pixel":
        columns |= {"y": queries.y[answered], "x": queries.x[answered]}
    elif queries.unit == "region":
        columns |= {"region": queries.region[answered], "areas": questions.every_area().taken(answered)}
    else:
        columns["image_level"] = 1
    return Answers.of(len(answered), classes, **columns)
