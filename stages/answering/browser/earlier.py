"""What is beside the output of `annotate` from before: a damaged ledger, and journals of answers to other queries."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from stages.answering.answer import Answer, fault
from stages.answering.browser.masks import MaskFiles
from stages.answering.journal import Asked, Journal, read_contents, read_journal
from stages.answering.questions import Questions
from stages.artifacts.annotations import Annotations
from stages.artifacts.hdf5 import Artifact
from stages.artifacts.journals import find_journals, masks_folder
from stages.artifacts.opening import read_any_header
from stages.artifacts.request import Request
from stages.artifacts.verify import content_faults
from stages.runtime.console import say
from stages.runtime.errors import BadInput


def adopt(older: Path, journal: Path) -> None:
    """Renames the unfinished journal ``older``, as it was named before the settings were left out of its name."""
    if older.is_file() and not journal.exists():
        if masks_folder(older).is_dir():
            masks_folder(older).rename(masks_folder(journal))
        older.rename(journal)


def set_damaged_aside(output: Path, journal: Path, questions: Questions) -> None:
    """Moves a damaged ledger out of the way if ``journal`` has all answers to ``questions`` that were in it."""
    if not (output.is_file() and journal.is_file() and read_journal(journal, questions).finished):
        return
    if is_damaged(output, questions):
        aside = next(path for path in names_aside(output) if not path.exists())
        output.rename(aside)
        say(f"{output} is damaged and was moved to {aside}")


def names_aside(output: Path) -> Iterator[Path]:
    return (output.with_name(f"{output.name}.damaged-{number}") for number in count(1))


def is_damaged(output: Path, questions: Questions) -> bool:
    """Whether the file cannot be read, or is a damaged ledger of people's answers to ``questions``."""
    try:
        header = read_any_header(output)
        queries = header.inputs.get("queries")
        if header.stage != "annotate" or queries is None or queries.digest != questions.queries.digest:
            return False
        with Artifact(output) as ledger:
            return bool(content_faults(ledger))
    except BadInput:
        return True


def may_edit(request: Request, journal: Path, questions: Questions, wanted: bool) -> bool:
    """Whether answers may be changed although the ledger is written: if ``wanted``, or if that was interrupted before.

    The journal must have all answers that the ledger has of these queries: BadInput otherwise, because the ledger that
    is written again would lose them.
    """
    found = read_journal(journal, questions) if journal.is_file() else None
    interrupted = found is not None and found.reopened
    if not (wanted or interrupted) or request.differences() != []:
        return False
    if found is None or not found.finished:
        raise BadInput(
            f"{request.output} has no journal of its answers any more: a later ledger contains them. Omit --edit, and "
            "ask the queries again in a later round."
        )
    kept = {tuple(questions.place(answer.query).values()) for answer in found.answers}
    with Annotations(request.output) as ledger:
        rows = ledger.answers
        own = (rows.round == questions.queries.round).nonzero()[0]
        places = zip(rows.image[own], rows.y[own], rows.x[own], rows.region[own], strict=True)
        missing = sum((ledger.ids[image], int(y), int(x), int(region)) not in kept for image, y, x, region in places)
    if missing:
        raise BadInput(
            f"{journal} lacks {missing} answers that {request.output} contains, so it cannot be written again. Omit "
            "--edit."
        )
    return True


@dataclass(frozen=True)
class Usable:
    """An answer in another journal, and the same answer to the open query of ours that has the same place."""

    there: Answer
    here: Answer


def usable_answers(path: Path, journal: Journal) -> tuple[int, list[Usable]]:
    """The number of answers in the journal ``path``, and those of them that answer open queries of ``journal``.

    Numbers of classes and regions, and places on a grid, must mean the same. BadInput if the journal is damaged.
    """
    try:
        found, _ = read_contents(path)
    except OSError as error:
        raise BadInput(f"Cannot read {path}: {error.strerror}. Pass a journal that `alseg annotate` named.") from error
    ours, questions = Asked.of(journal.questions), journal.questions
    if found.asked is None or (found.asked.classes, found.asked.superpixels) != (ours.classes, ours.superpixels):
        return len(found.answers), []
    answered = {answer.query for answer in journal.answers}
    places = {tuple(questions.place(query).values()): query for query in questions.order if query not in answered}
    usable = []
    for there in found.answers:
        query = places.get((there.image, there.y, there.x, there.region))
        if query is None or found.asked.sizes.get(there.image) != ours.sizes.get(there.image):
            continue
        here = there.model_copy(update={"query": query})
        if fault(here, questions) is None:
            usable.append(Usable(there, here))
    return len(found.answers), usable


def name_others(output: Path, journal: Journal) -> None:
    """Says which journals beside the output have answers to other queries, and how to use these answers."""
    for path in find_journals(output):
        if path == journal.path:
            continue
        try:
            total, usable = usable_answers(path, journal)
        except BadInput as error:
            say(str(error))
            continue
        fitting = len({each.here.query for each in usable})
        hint = f"; pass --journal {path} to use those to {fitting} open queries of these" if fitting else ""
        say(f"{path} has {total} answers to other queries{hint}")


def take_over(path: Path, journal: Journal, masks: MaskFiles | None) -> None:
    """Adds the answers in the journal ``path`` that answer open queries; it stays as it is.

    BadInput if there are none, or if a mask is missing.
    """
    total, usable = usable_answers(path, journal)
    if not usable:
        raise BadInput(f"{path} has {total} answers, but none to an open query here. Omit --journal.")
    if masks is not None:
        theirs = MaskFiles(masks_folder(path), journal.questions)
        for each in {each.here.query: each for each in usable if each.here.mask}.values():
            masks.keep(each.here.query, theirs.read_begun(each.there.query, each.there.mask))
    answers = [each.here for each in usable]
    journal.append(answers)
    say(f"took over the answers to {len({answer.query for answer in answers})} queries from {path}")
