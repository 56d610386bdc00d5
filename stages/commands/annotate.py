"""The stage `annotate`: people answer queries in a browser."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stages.answering.browser.earlier import adopt, name_others, set_damaged_aside, take_over
from stages.answering.browser.masks import MaskFiles
from stages.answering.browser.session import Session
from stages.answering.journal import Journal, journal_of, open_journal
from stages.answering.questions import TEXTS, Questions
from stages.answering.rows import ledger_rows, mask_rows, publish_answers
from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import require_made_from
from stages.artifacts.images_table import require_same_grid
from stages.artifacts.journals import journal_path, masks_folder
from stages.artifacts.queries import Queries
from stages.artifacts.request import Request, produce, refer
from stages.artifacts.superpixels import regions_of
from stages.runtime.console import say
from stages.runtime.errors import BadInput, Stopped
from stages.settings.annotate import PeopleSettings
from stages.settings.base import existing
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

    Each answer is saved in a journal beside the output before the next query is shown, so the same command resumes
    after any interruption. Unanswered queries stay open if somebody finishes early. Raises Stopped if a signal arrives
    before the end, and BadInput for settings that do not apply to the kind of answer queried.
    """
    with Dataset(dataset) as data, Queries(queries) as queried:
        settings = settings.settled(str(queries), answer=queried.answer)
        require_made_from(queried, "dataset", data)
        ledger = None if annotations is None else Annotations(annotations)
        queried.require_ledger(ledger)
        if queried.answer not in TEXTS:
            raise BadInput(
                f"{queried.path} contains queries of exact labels of regions, which the page does not offer. Paint "
                "them in another tool (export-queries, import-answers)."
            )
        regions = regions_of(superpixels, data, queried)
        inputs = {"dataset": data, "queries": queried, "annotations": ledger, "superpixels": regions}
        request = Request("annotate", "annotations", output, settings, refer(output, inputs))
        if ledger is not None:  # check now instead of after everything is answered
            require_same_grid(ledger, ledger.sizes, queried.sizes)
        questions = Questions(data, queried, regions)
        if settings.naming is not None:
            class_keys(settings.naming.keys, settings.commands(), questions.classes)
        journal = journal_of(request.output, questions)
        adopt(journal_path(request.output, request.key()), journal)
        set_damaged_aside(request.output, journal, questions)
        return produce(request, lambda: build(request, journal, questions, ledger, settings), force)


def build(
    request: Request, path: Path, questions: Questions, ledger: Annotations | None, settings: PeopleSettings
) -> str:
    from stages.answering.browser.serving import serve

    with open_journal(path, questions) as journal, uploaded_masks(journal) as masks:
        name_others(request.output, journal)
        if settings.journal is not None and not journal.finished:
            take_over(Path(settings.journal), journal, masks)
        session = Session(questions, journal, settings, ledger.annotators if ledger is not None else (), masks)
        if session.answers:
            say(f"{len(session.answers)} of {len(session.order)} queries were answered before")
        summary = ""

        def finish() -> str:
            nonlocal summary
            journal.finish()
            summary = publish(request, session, ledger)
            return summary

        if session.complete or journal.finished:  # the ledger was not written, or is missing or damaged since
            say(f"writing {request.output} from {path}")
            finish()
        elif not serve(session, settings.host, settings.port, finish):
            done, count = len(session.answers), len(session.order)
            raise Stopped(
                f"stopped: {done} of {count} queries answered, {count - done} open; run the command again to resume"
            )
    return summary


@contextlib.contextmanager
def uploaded_masks(journal: Journal) -> Iterator[MaskFiles | None]:
    """The uploaded masks, if masks are queried; those without an answer are removed before and after."""
    if journal.questions.queries.answer != "mask":
        yield None
        return
    masks = MaskFiles(masks_folder(journal.path), journal.questions)
    masks.require(journal.latest.values())
    masks.remove_all_but(journal.latest.values())
    try:
        yield masks
    finally:
        masks.remove_all_but(journal.latest.values())


def publish(request: Request, session: Session, ledger: Annotations | None) -> str:
    """Publishes the ledger with the answers of a session; returns a summary."""
    questions = session.questions
    masks: dict[str, np.ndarray] = {}
    if session.masks is None:
        new, people = ledger_rows(questions, session.answers, session.seconds)
    else:
        cost = existing(session.settings.mask)
        new, people = mask_rows(questions, session.answers, cost.clicks_per_mask, cost.seconds_per_mask)
        for query, answer in session.answers.items():
            masks[questions.image(query)] = session.masks.read(query, answer.mask)
    return publish_answers(request, questions, ledger, new, people, masks)
