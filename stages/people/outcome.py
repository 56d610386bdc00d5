"""The answers people gave as rows of a ledger."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from stages.artifacts.answers import ANSWERED, ANSWERED_VOID, SKIPPED, Answers
from stages.artifacts.dataset import VOID
from stages.people.given import Given
from stages.people.questions import Questions


def ledger_rows(
    questions: Questions, given: Mapping[int, Given], seconds: Mapping[int, float]
) -> tuple[Answers, list[str]]:
    """One row per answered query in their order, and the annotators that the rows number.

    ``given`` maps query to its answer, ``seconds`` to the time that all its answers took. What people do not know
    stays empty: the true classes below a region.
    """
    queries, classes = questions.queries, len(questions.data.classes)
    asked = np.array(sorted(given), dtype=np.int64)
    answers = [given[query] for query in asked.tolist()]
    people = list(dict.fromkeys(answer.annotator for answer in answers))
    sets = np.zeros((len(asked), classes + 1), dtype=np.uint8)
    if questions.of_sets:
        for row, answer in enumerate(answers):
            sets[row, list(answer.classes)] = 1
            sets[row, -1] = answer.void and queries.answer == "class-set"
    columns: dict[str, Any] = {
        "image": queries.image[asked],
        "round": queries.round,
        "label": [label_of(answer, queries.answer) for answer in answers],
        "state": [state_of(answer) for answer in answers],
        "clicks": np.maximum(sets.sum(1), 1),
        "seconds": [seconds[query] for query in asked.tolist()],
        "annotator": [people.index(answer.annotator) for answer in answers],
        "class_sets": sets,
    }
    if queries.unit == "pixel":
        columns |= {"y": queries.y[asked], "x": queries.x[asked]}
    elif queries.unit == "region":
        columns |= {"region": queries.region[asked], "areas": questions.every_area().taken(asked)}
    else:
        columns["image_level"] = 1
    return Answers.of(len(asked), classes, **columns), people


def label_of(given: Given, asked: str) -> int:
    """The one class of an answer; VOID where it names none, or several, or all classes of an image."""
    alone = len(given.classes) == 1 and not given.void and asked != "image-classes"
    return given.classes[0] if alone else VOID


def state_of(given: Given) -> int:
    return SKIPPED if given.skip else ANSWERED if given.classes else ANSWERED_VOID
