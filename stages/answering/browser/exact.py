"""Exact labels of regions that people painted on the page, as rows of the ledger."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from stages.answering.answer import Answer
from stages.answering.browser.masks import MaskFiles
from stages.answering.exchange.painted import Painting, Strokes, painted_answers
from stages.answering.exchange.values import SKIP, UNPAINTED
from stages.answering.questions import Questions
from stages.answering.rows import Cost
from stages.artifacts.answers import Answers
from stages.settings.annotate_simulate import ClickCost


def exact_rows(
    questions: Questions, answers: Mapping[int, Answer], masks: MaskFiles, cost: Cost
) -> tuple[Answers, list[str], dict[str, np.ndarray]]:
    """One row per answer, the annotators that the rows refer to, and the labels (H,W) u8 of each image.

    The images are put together from the regions and read as those of other tools are.
    """
    by_image: dict[str, list[Answer]] = {}
    for answer in answers.values():
        by_image.setdefault(answer.image, []).append(answer)
    painted = {image: painting(questions, image, given, masks) for image, given in by_image.items()}
    found = painted_answers(questions, painted, ClickCost.load({}), None)
    ordered = [answers[query] for query in sorted(answers)]
    people = list(dict.fromkeys(answer.annotator for answer in ordered))
    new = replace(
        found.answers,
        clicks=np.array([cost.clicks[answer.query] for answer in ordered], dtype=np.float32),
        seconds=np.array([cost.seconds[answer.query] for answer in ordered], dtype=np.float32),
        annotator=np.array([people.index(answer.annotator) for answer in ordered], dtype=np.uint8),
    )
    return new, people, found.masks


def painting(questions: Questions, image: str, answers: list[Answer], masks: MaskFiles) -> Painting:
    """An image in which the answered regions are painted."""
    size = questions.queries.sizes[image]
    seen = np.full(size[0] * size[1], UNPAINTED, dtype=np.uint8)
    for answer in answers:
        index, _ = questions.area(answer.query).pixels(np.zeros(1, dtype=np.int64))
        seen[index] = SKIP if answer.skip else masks.read(answer.query, answer.mask).ravel()[index]
    return Painting(size, lambda: Strokes(size, np.arange(seen.size), seen))
