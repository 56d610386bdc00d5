"""The journal of answers: one line of JSON each and its checksum, on disk before the page moves on."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from stages.answering.answer import Answer, fault
from stages.answering.browser.refused import what_is_wrong
from stages.answering.questions import Questions
from stages.artifacts.publish import make_folder, refusal, sync_folder, work_folder
from stages.runtime.errors import BadInput, StageFailed

CHECKSUM = b',"sha256":"'


def journal_path(output: Path, key: str) -> Path:
    """The journal for ``output``; ``key`` is that of the request, so the answers to another one are never read."""
    return work_folder(output) / f"journal-{key[:16]}.jsonl"


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
            self.answers, self.length = read_journal(path, questions)
            os.ftruncate(self.file, self.length)
        except BaseException:
            self.close()
            raise

    def append(self, answer: Answer) -> None:
        """Adds an answer; StageFailed if it cannot be written, and then the journal is as before."""
        line = with_checksum(answer.model_dump_json(exclude_defaults=True).encode()) + b"\n"
        try:
            written = 0
            while written < len(line):
                written += os.pwrite(self.file, line[written:], self.length + written)
            os.fsync(self.file)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self.file, self.length)
            raise StageFailed(f"Cannot save the answer in {self.path}: {error.strerror}. Free disk space.") from error
        self.length += len(line)

    def close(self) -> None:
        os.close(self.file)

    def remove(self) -> None:
        """Removes the file, and its folder if that is empty."""
        self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()


def with_checksum(answer: bytes) -> bytes:
    """The JSON object ``answer`` with its checksum as the last member."""
    return answer[:-1] + CHECKSUM + hashlib.sha256(answer).hexdigest()[:16].encode() + b'"}'


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


def read_journal(path: Path, questions: Questions) -> tuple[list[Answer], int]:
    """The answers in a journal and their length in bytes.

    An incomplete last line does not count: the page never learnt that it was saved. BadInput for any other damage.
    """
    content = path.read_bytes()
    lines = content.split(b"\n")
    torn = lines.pop()
    if is_protected(torn[:-1]):  # whole, so it is its end that was damaged
        lines.append(torn)
        torn = b""
    answers: list[Answer] = []
    length = len(content) - len(torn)
    for number, line in enumerate(lines, start=1):
        try:
            answer = Answer.model_validate_json(without_checksum(line))
            wrong = fault(answer, questions)
        except ValidationError as error:
            if number == len(lines) and not torn and line[:1] in (b"", b"\0"):  # space that was never written
                return answers, length - len(line) - 1
            wrong = f"The line is damaged ({what_is_wrong(error)})."
        except ValueError as error:
            wrong = f"The line is damaged ({error})."
        if wrong is not None:
            raise BadInput(f"{path}, line {number}: {wrong} Remove the line: its query is then asked again.")
        answers.append(answer)
    return answers, length


@contextlib.contextmanager
def open_journal(path: Path, questions: Questions) -> Iterator[Journal]:
    """An open journal, closed at the end; one without answers is removed."""
    journal = Journal(path, questions)
    try:
        yield journal
    finally:
        journal.close()
        if not journal.length:
            journal.remove()
