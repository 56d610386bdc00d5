"""Who answered the queries that are asked again, so that others are asked."""

import numpy as np

from stages.answering.questions import Questions
from stages.artifacts.annotations import Annotations
from stages.artifacts.purposes import AGAIN


def answered_before(ledger: Annotations, questions: Questions) -> dict[int, set[str]]:
    """Query -> the people whose answers to it ``ledger`` has, for the queries that are asked again."""
    queries, answers = questions.queries, ledger.answers
    files = [file.digest for file in ledger.region_files]
    number = -1
    if questions.regions is not None:
        number = files.index(questions.regions.digest) if questions.regions.digest in files else len(files)
    found: dict[int, set[str]] = {}
    for query in np.flatnonzero(queries.purpose == AGAIN).tolist():
        image = questions.image(query)
        if image not in ledger.sizes:
            continue
        same = (answers.image == ledger.ids.index(image)) & (answers.superpixels == number)
        for column in ("y", "x", "region") if questions.regions is not None else ("y", "x"):
            same &= getattr(answers, column) == getattr(queries, column)[query]
        found[query] = {ledger.annotators[person] for person in answers.annotator[same].tolist()}
    return found
