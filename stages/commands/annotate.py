"""The stage `annotate`: people answer queries in a browser."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stages.answering.browser.earlier import adopt, may_edit, name_others, set_damaged_aside, take_over
from stages.answering.browser.exact import exact_rows
from stages.answering.browser.guide import read_guide
from stages.answering.browser.masks import MaskFiles
from stages.answering.browser.originals import find_originals
from stages.answering.browser.pins import pins_of
from stages.answering.browser.repeats import answered_before
from stages.answering.browser.session import Session, Shown
from stages.answering.browser.suggestions import Suggestions, load_suggestions
from stages.answering.journal import Journal, journal_of, open_journal
from stages.answering.questions import EXACT, Questions
from stages.answering.rows import Cost, ledger_rows, mask_rows, publish_answers
from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import require_made_from
from stages.artifacts.images_table import require_same_grid
from stages.artifacts.journals import journal_path, masks_folder
from stages.artifacts.queries import Queries
from stages.artifacts.request import Request, produce, refer
from stages.artifacts.superpixels import regions_of
from stages.runtime.console import say
from stages.runtime.errors import Stopped
from stages.settings.annotate import PaintedCost, PeopleSettings
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

    Each answer is saved in a journal beside the output before the next one is sent, so the same command resumes
    after any interruption. Unanswered queries stay open if somebody finishes early. Raises Stopped if a signal arrives
    before the end, and BadInput for settings that do not apply to the kind of answer queried.
    """
    with Dataset(dataset) as data, Queries(queries) as queried:
        settings = settings.settled(str(queries), answer=queried.answer)
        require_made_from(queried, "dataset", data)
        ledger = None if annotations is None else Annotations(annotations)
        queried.require_ledger(ledger)
        regions = regions_of(superpixels, data, queried)
        inputs = {"dataset": data, "queries": queried, "annotations": ledger, "superpixels": regions}
        request = Request("annotate", "annotations", output, settings, refer(output, inputs))
        if ledger is not None:  # check now instead of after everything is answered
            require_same_grid(ledger, ledger.sizes, queried.sizes)
        questions = Questions(data, queried, regions)
        class_keys(settings.keys, settings.commands(), questions.classes)
        extras = shown_beside(questions, ledger, settings)
        journal = journal_of(request.output, questions)
        adopt(journal_path(request.output, request.key()), journal)
        set_damaged_aside(request.output, journal, questions)
        edits = may_edit(request, journal, questions, settings.edit)
        return produce(
            request, lambda: build(request, journal, questions, ledger, settings, extras), force, edits=edits
        )


def shown_beside(questions: Questions, ledger: Annotations | None, settings: PeopleSettings) -> Shown:
    """What the page shows beside the questions; BadInput for files that do not fit."""
    return Shown(
        originals=find_originals(questions.data, settings.originals, list(questions.rows)),
        guide=None if settings.guide is None else read_guide(Path(settings.guide)),
        suggestions=None if settings.suggest is None else load_suggestions(Path(settings.suggest), questions),
        pins={} if ledger is None else pins_of(ledger, questions),
        answered_before={} if ledger is None else answered_before(ledger, questions),
    )


def build(
    request: Request,
    path: Path,
    questions: Questions,
    ledger: Annotations | None,
    settings: PeopleSettings,
    extras: Shown,
) -> str:
    from stages.answering.browser.serving import serve

    with open_journal(path, questions) as journal, stored_masks(journal) as masks, computed(extras.suggestions):
        name_others(request.output, journal)
        if settings.journal is not None and not journal.finished:
            take_over(Path(settings.journal), journal, masks)
        editing = journal.reopened or (settings.edit and journal.finished)
        people = ledger.annotators if ledger is not None else ()
        session = Session(questions, journal, settings, people, masks, shown=extras, editing=editing)
        if session.answers:
            say(f"{len(session.answers)} of {len(session.order)} queries were answered before")
        summary = ""

        def finish() -> str:
            nonlocal summary
            journal.finish()
            summary = publish(request, session, ledger)
            return summary

        if (
            session.complete or journal.finished
        ) and not editing:  # the ledger was not written, or is missing or damaged since
            say(f"writing {request.output} from {path}")
            finish()
        elif not serve(session, settings.host, settings.port, finish):
            done, count = len(session.answers), len(session.order)
            raise Stopped(
                f"stopped: {done} of {count} queries answered, {count - done} open; run the command again to resume"
            )
    return summary


@contextlib.contextmanager
def stored_masks(journal: Journal) -> Iterator[MaskFiles | None]:
    """The masks, if exact labels are queried.

    Those without an answer are removed, except those of open queries, which somebody began and goes on with, until
    answering ends.
    """
    if journal.questions.queries.answer not in EXACT:
        yield None
        return
    masks = MaskFiles(masks_folder(journal.path), journal.questions)
    masks.require(journal.latest.values())
    masks.remove_all_but(journal.latest.values(), drafts_too=False)
    try:
        yield masks
    finally:
        masks.remove_all_but(journal.latest.values(), drafts_too=journal.finished)


@contextlib.contextmanager
def computed(suggestions: Suggestions | None) -> Iterator[None]:
    """Computes the suggestions beside what is done meanwhile."""
    if suggestions is None:
        yield
        return
    suggestions.thread.start()
    try:
        yield
    finally:
        suggestions.stopped.set()
        suggestions.thread.join()


def publish(request: Request, session: Session, ledger: Annotations | None) -> str:
    """Publishes the ledger with the answers of a session; returns a summary."""
    questions, stored, answers = session.questions, session.masks, session.answers
    masks: dict[str, np.ndarray] = {}
    if stored is None:
        new, people = ledger_rows(questions, answers, session.seconds)
    elif session.settings.mask is not None:
        new, people = mask_rows(questions, answers, cost_of_masks(session, session.settings.mask))
        masks = {questions.image(query): stored.read(query, answer.mask) for query, answer in answers.items()}
    else:
        clicks = {query: session.clicks[query] or 1 for query in answers}
        new, people, masks = exact_rows(questions, answers, stored, Cost(clicks, session.seconds))
    models = sorted({answer.suggested_by for answer in answers.values()} - {""})
    told = {"suggested_by": models} if models else {}
    return publish_answers(request, questions, ledger, new, people, masks, told)


def cost_of_masks(session: Session, elsewhere: PaintedCost) -> Cost:
    """The cost of masks as measured on the page; of those with a chosen file that of painting ``elsewhere``."""
    clicks, seconds = {}, {}
    for query in session.answers:
        measured = session.clicks[query]
        clicks[query] = elsewhere.clicks_per_mask if measured is None else float(measured)
        seconds[query] = elsewhere.seconds_per_mask if measured is None else session.seconds[query]
    return Cost(clicks, seconds)
