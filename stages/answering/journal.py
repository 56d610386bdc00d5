"""The journal of answers: one line of JSON each with a checksum of its own, on disk before the page sends the next.

The first line says what is asked. One that says that answering has ended follows the answers: from then on the journal
and the ledger before make the ledger, whatever happens to it. Answers after such a line were changed once the ledger
was written, which has to be written again.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from stages.answering.answer import Answer, fault, what_is_wrong
from stages.answering.questions import Questions
from stages.artifacts.header import digest_of
from stages.artifacts.journals import find_journals, journal_path, masks_folder, remove_journal
from stages.artifacts.opening import read_any_header
from stages.artifacts.publish import make_folder, refusal, sync_folder
from stages.pixels.grids import Size
from stages.runtime.errors import BadInput, StageFailed

CHECKSUM = b',"sha256":"'


class Asked(BaseModel):
    """What the answers in a journal are about: the digest of the queries, and what gives numbers their meaning."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    queries: str
    classes: tuple[str, ...]
    superpixels: str = ""  # the digest of the file that numbers the regions
    sizes: dict[str, Size] = {}  # of the grids that y and x are on

    @classmethod
    def of(cls, questions: Questions) -> Self:
        queries, regions = questions.queries, questions.regions
        sizes = queries.sizes if queries.unit == "pixel" else {}
        digest = "" if regions is None else regions.digest
        return cls(queries=queries.digest, classes=tuple(questions.classes), superpixels=digest, sizes=sizes)


class Finished(BaseModel):
    """The last line, once answering has ended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    finished: str  # when, for people who read the journal


Record = Asked | Answer | Finished


@dataclass
class Contents:
    """What is in a journal: its answers, oldest first, whether answering ended, and the bytes of its whole lines."""

    asked: Asked | None = None
    answers: list[Answer] = field(default_factory=list)
    finished: bool = False
    reopened: bool = False  # whether there are answers after the end of answering
    length: int = 0


def journal_of(output: Path, questions: Questions) -> Path:
    """The journal for the ledger ``output``: what is asked decides, not how the page is served."""
    return journal_path(output, digest_of(Asked.of(questions).model_dump()))


class Journal:
    """An open journal and the answers found in it, oldest first. Only the holder of the output's lock opens it."""

    def __init__(self, path: Path, questions: Questions):
        self.path, self.questions = path, questions
        fresh = not path.parent.is_dir()
        make_folder(path.parent)
        try:
            self.file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise refusal(f"Cannot write {path}", error) from error
        try:
            sync_folder(path.parent)
            if fresh:
                sync_folder(path.parent.parent)
            found = read_journal(path, questions)
            self.answers, self.length = found.answers, found.length
            self.finished, self.reopened = found.finished, found.reopened
            os.ftruncate(self.file, self.length)
        except BaseException:
            self.close()
            raise

    @property
    def latest(self) -> dict[int, Answer]:
        """The last answer to each query."""
        return {answer.query: answer for answer in self.answers}

    def append(self, answers: Sequence[Answer]) -> None:
        """Adds answers; StageFailed if they cannot be written, with the journal unchanged."""
        self.write(answers, "the answer")
        self.answers += answers
        self.reopened = self.finished

    def finish(self) -> None:
        """Records that answering has ended; StageFailed if that cannot be written."""
        if not self.finished or self.reopened:
            self.write([Finished(finished=datetime.now(UTC).isoformat(timespec="seconds"))], "the end of answering")
            self.finished, self.reopened = True, False

    def write(self, records: Sequence[Record], what: str) -> None:
        """Appends records; the first ones after a line with what is asked."""
        heading = [] if self.length else [Asked.of(self.questions)]
        lines = b"".join(
            with_checksum(each.model_dump_json(exclude_defaults=True).encode()) + b"\n" for each in [*heading, *records]
        )
        try:
            written = 0
            while written < len(lines):
                written += os.pwrite(self.file, lines[written:], self.length + written)
            os.fsync(self.file)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self.file, self.length)
            raise StageFailed(f"Cannot save {what} in {self.path}: {error.strerror}. Free disk space.") from error
        self.length += len(lines)

    def close(self) -> None:
        os.close(self.file)


def read_journal(path: Path, questions: Questions) -> Contents:
    """The contents of a journal; BadInput unless its answers are to ``questions``."""
    found, numbers = read_contents(path)
    for answer, number in zip(found.answers, numbers, strict=True):
        wrong = fault(answer, questions)
        if wrong is not None:
            raise damaged(path, number, wrong)
    return found


def read_contents(path: Path) -> tuple[Contents, list[int]]:
    """The contents of a journal, and the numbers of the lines of its answers.

    An incomplete last line is ignored: the page was never told that it was saved. BadInput for any other damage.
    """
    content = path.read_bytes()
    lines = content.split(b"\n")
    torn = lines.pop()
    if is_protected(torn[:-1]):  # whole, so it is its end that was damaged
        lines.append(torn)
        torn = b""
    found = Contents(length=len(content) - len(torn))
    numbers: list[int] = []
    for number, line in enumerate(lines, start=1):
        try:
            record = read_record(without_checksum(line))
        except ValidationError as error:
            if number == len(lines) and not torn and line[:1] in (b"", b"\0"):  # space that was never written
                found.length -= len(line) + 1
                break
            raise damaged(path, number, f"The line is damaged ({what_is_wrong(error)}).") from None
        except ValueError as error:
            raise damaged(path, number, f"The line is damaged ({error}).") from None
        match record:
            case Asked():
                found.asked = record
            case Finished():
                found.finished, found.reopened = True, False
            case Answer():
                found.reopened = found.finished
                found.answers.append(record)
                numbers.append(number)
    return found, numbers


def with_checksum(record: bytes) -> bytes:
    """The JSON object ``record`` with its checksum as the last member."""
    return record[:-1] + CHECKSUM + hashlib.sha256(record).hexdigest()[:16].encode() + b'"}'


def without_checksum(line: bytes) -> bytes:
    """The JSON object in ``line``; ValueError if it does not match its checksum. Older lines do not have one."""
    content, found, _ = line.rpartition(CHECKSUM)
    if found and with_checksum(content + b"}") != line:
        raise ValueError("its checksum does not match")
    return content + b"}" if found else line


def is_protected(line: bytes) -> bool:
    """Whether ``line`` has a checksum that matches."""
    try:
        return without_checksum(line) != line
    except ValueError:
        return False


def read_record(line: bytes) -> Record:
    for kind in (Asked, Finished):
        if line.startswith(f'{{"{next(iter(kind.model_fields))}"'.encode()):
            return kind.model_validate_json(line)
    return Answer.model_validate_json(line)


def damaged(path: Path, number: int, why: str) -> BadInput:
    return BadInput(f"{path}, line {number}: {why} Remove the line: its query is then asked again.")


@contextlib.contextmanager
def open_journal(path: Path, questions: Questions) -> Iterator[Journal]:
    """An open journal, closed at the end; one without answers and begun masks is removed."""
    journal = Journal(path, questions)
    try:
        yield journal
    finally:
        journal.close()
        if not journal.length and not masks_folder(path).is_dir():
            remove_journal(path)


def is_being_edited(ledger: Path) -> bool:
    """Whether answers were changed after ``ledger`` was written, and it was not written again; BadInput if damaged."""
    return any(read_contents(path)[0].reopened for path in find_journals(ledger))


def remove_finished(ledger: Path) -> None:
    """Removes the journal that ``ledger`` was made of, if it is still there and has no later answers.

    Damaged ones stay.
    """
    with contextlib.suppress(BadInput):
        queries = read_any_header(ledger).inputs.get("queries")
        for path in find_journals(ledger):
            found, _ = read_contents(path)
            whole = found.finished and not found.reopened
            if whole and found.asked is not None and queries and found.asked.queries == queries.digest:
                remove_journal(path)
