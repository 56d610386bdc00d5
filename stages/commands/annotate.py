"""The stage `annotate`: people answer queries in a browser; the ledger is what `annotate-simulate` would write."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stages.answering.browser.journal import Journal, journal_path, open_journal
from stages.answering.browser.masks import MaskFiles
from stages.answering.browser.session import Session
from stages.answering.outcome import ledger_rows, mask_rows, publish_answers
from stages.answering.questions import ASKED, Questions
from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import require_made_from
from stages.artifacts.images_table import require_same_grid
from stages.artifacts.queries import Queries
from stages.artifacts.request import Request, produce, refer
from stages.artifacts.superpixels import regions_of
from stages.runtime.console import say
from stages.runtime.errors import BadInput, Stopped
from stages.settings.annotate import PeopleSettings
from stages.settings.keys import class_keys


def run(
    dataset: Path,
    queries: Path,
    output: Path,
    settings: PeopleSettings,
    annotations: Path | None = None,
    superpixels: Path | None = None,
    force: bool = False,
) -> Path:
    """Serves a page where people answer ``queries``; publishes the ledger ``annotations`` with the answers appended.

    Every answer is in a journal beside the output before the next query is shown; the same command goes on after any
    end. What is open when somebody finishes early stays open. Raises Stopped when a signal comes before the end.
    """
    with Dataset(dataset) as data, Queries(queries) as asked:
        require_made_from(asked, "dataset", data)
        before = None if annotations is None else Annotations(annotations)
        asked.require_ledger(before)
        if asked.answer not in ASKED:
            raise BadInput(
                f"{asked.path} asks for exact labels of regions, which the page does not take; paint them with another "
                "tool (export-queries, import-answers)."
            )
        regions = regions_of(superpixels, data, asked)
        inputs = {"dataset": data, "queries": asked, "annotations": before, "superpixels": regions}
        request = Request("annotate", "annotations", output, settings, refer(output, inputs))
        if before is not None:  # now, and not when everything is answered
            require_same_grid(before, before.sizes, asked.sizes)
        questions = Questions(data, asked, regions)
        if asked.answer != "mask":
            class_keys(settings.keys, settings.commands(), questions.classes)
        return produce(request, lambda: build(request, questions, before, settings), force)


def build(request: Request, questions: Questions, before: Annotations | None, settings: PeopleSettings) -> str:
    from stages.answering.browser.serving import serve

    path = journal_path(request.output, request.key())
    with open_journal(path, questions) as journal, brought_masks(path.with_suffix(".masks"), journal) as masks:
        session = Session(questions, journal, settings, before.annotators if before is not None else (), masks)
        if session.given:
            say(f"{len(session.given)} of {len(session.order)} queries are answered already")
        summary = ""

        def finish() -> str:
            nonlocal summary
            summary = publish(request, session, before)
            return summary

        if session.complete:  # stopped between the last answer and the ledger
            finish()
        elif not serve(session, settings, finish):
            done, count = len(session.given), len(session.order)
            raise Stopped(
                f"stopped with {done} of {count} queries answered; {count - done} are open, run it again to go on"
            )
        if masks is not None:
            masks.remove()
        journal.remove()
    return summary


@contextlib.contextmanager
def brought_masks(folder: Path, journal: Journal) -> Iterator[MaskFiles | None]:
    """Where masks are asked for, those that were brought; without an answer they leave nothing behind."""
    if journal.questions.queries.answer != "mask":
        yield None
        return
    masks = MaskFiles(folder, journal.questions)
    masks.require(journal.answers)
    try:
        yield masks
    finally:
        if not journal.length:
            masks.remove()


def publish(request: Request, session: Session, before: Annotations | None) -> str:
    questions = session.questions
    masks: dict[str, np.ndarray] = {}
    if session.masks is None:
        new, people = ledger_rows(questions, session.given, session.seconds)
    else:
        settings = session.settings
        new, people = mask_rows(questions, session.given, settings.clicks_per_mask, settings.seconds_per_mask)
        for query, given in session.given.items():
            masks[questions.image(query)] = session.masks.read(query, given.mask)
    return publish_answers(request, questions, before, new, people, masks)
