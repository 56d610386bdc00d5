"""Queries as shapes on their images, each with the values to paint in it: its answer, or open."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.answering.answer import Answer
from stages.answering.exchange.values import OPEN, SKIP
from stages.answering.questions import EXACT, Questions
from stages.artifacts import answers as states
from stages.artifacts.annotations import Annotations
from stages.pixels.grids import map_on_image
from stages.pixels.void import VOID
from stages.runtime.errors import BadInput


@dataclass(frozen=True)
class Outlines:
    """The shapes of one image: ``numbers`` (H,W) i32, -1 outside of all shapes, and the values of each shape."""

    numbers: np.ndarray
    values: Sequence[Sequence[int]]


def answers_of(questions: Questions, ledger: Annotations) -> dict[int, Answer]:
    """Query -> its answer in ``ledger``, without exact labels.

    BadInput unless the last round of the ledger answers these queries.
    """
    queries, answers = questions.queries, ledger.answers
    made_from = ledger.header.inputs.get("queries")
    if made_from is None or made_from.digest != queries.digest:
        raise BadInput(f"{ledger.path} was not made from {queries.path}. Pass the ledger of these queries.")
    known = {tuple(questions.place(query).values()): query for query in range(len(queries))}
    found: dict[int, Answer] = {}
    for row in np.flatnonzero(answers.round == queries.round).tolist():
        place = (
            ledger.ids[answers.image[row]],
            *(int(column[row]) for column in (answers.y, answers.x, answers.region)),
        )
        query, state = known[place], answers.state[row]
        named = answers.class_sets[row, :-1] if questions.of_sets else answers.label[row] == np.arange(VOID)
        found[query] = Answer(
            query=query,
            **questions.place(query),
            classes=tuple(np.flatnonzero(named).tolist()),
            void=bool(state == states.ANSWERED_VOID or answers.class_sets[row, -1]),
            skip=bool(state == states.SKIPPED),
            seconds=float(answers.seconds[row]),
            annotator=ledger.annotators[answers.annotator[row]],
        )
    return found


def outlines(questions: Questions, answers: dict[int, Answer], ledger: Annotations | None, image: str) -> Outlines:
    """The queries of ``image``, a shape each; with exact labels, a shape for each class in a query."""
    rows, grid = questions.rows[image].tolist(), questions.queries.sizes[image]
    index, owner = questions.areas(image).pixels(np.arange(len(rows)))
    code = owner * 256 + OPEN
    if questions.queries.answer in EXACT and ledger is not None:
        done = np.array([query in answers and not answers[query].skip for query in rows])
        known = f"masks/{image}" in ledger  # otherwise all queried pixels are void
        labels = ledger.read(f"masks/{image}").ravel()[index] if known else VOID
        code = np.where(done[owner], owner * 256 + labels, code)
    codes, inverse = np.unique(code, return_inverse=True)
    numbers = np.full(grid, -1, dtype=np.int32)
    numbers.ravel()[index] = inverse
    values = []
    for owned, value in zip((codes // 256).tolist(), (codes % 256).tolist(), strict=True):
        answer = answers.get(rows[owned])
        exact = questions.queries.answer in EXACT and answer is not None and not answer.skip
        values.append([value] if exact or answer is None else painted_with(answer))
    return Outlines(map_on_image(numbers, questions.data.sizes[image]), values)


def painted_with(answer: Answer) -> list[int]:
    """The values that an answer without exact labels is painted with."""
    return [SKIP] if answer.skip else [*answer.classes, *([VOID] if answer.void else [])]
