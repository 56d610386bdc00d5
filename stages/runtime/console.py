"""Output of a running stage: messages on standard output, progress on standard error."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table


def is_main_process() -> bool:
    """False in the processes of torchrun other than the first, which stay silent."""
    return os.environ.get("RANK", "0") == "0"


def say(text: str) -> None:
    """Prints one line to standard output, without markup or wrapping, because it often ends up in logs.

    It is news of a stage, whose result is a file: if the line cannot be printed, the stage goes on. What a command is
    asked to print goes through `print`.
    """
    if is_main_process() and not any(words in text for words in unsaid):
        print_line(text, sys.stdout)


@contextmanager
def without_lines(containing: str) -> Iterator[None]:
    """Keeps `say` from printing lines with these words, for commands that run many stages."""
    unsaid.append(containing)
    try:
        yield
    finally:
        unsaid.remove(containing)


unsaid: list[str] = []


def print_line(text: str, stream: TextIO) -> None:
    """Prints a line to ``stream``, or nothing if that is full, closed or a broken pipe.

    It is one write, so that lines of several processes in one log stay whole (``python -u``, as torchrun starts it,
    would write the end of the line on its own).
    """
    with suppress(OSError, ValueError):  # ValueError: closed by the program
        print(f"{text}\n", end="", file=stream, flush=True)


UNLIMITED = 1 << 16  # columns


def print_table(table: Table) -> None:
    """Prints a table as wide as the terminal, or as wide as it is into a file or a pipe."""
    Console(highlight=False, width=None if sys.stdout.isatty() else UNLIMITED).print(table)


SHORTEST_PAUSE, PAUSE_SHARE = 10.0, 0.1  # seconds between two lines of a log, and their share of the time so far


def pause(seconds: float) -> float:
    """Seconds until the next line of a log about work that began ``seconds`` ago."""
    return max(SHORTEST_PAUSE, PAUSE_SHARE * seconds)


listeners: list[Callable[[str], None]] = []


@contextmanager
def progress_told_to(listener: Callable[[str], None]) -> Iterator[None]:
    """Calls ``listener`` with a line whenever a log would get one, on a terminal too."""
    listeners.append(listener)
    try:
        yield
    finally:
        listeners.remove(listener)


class Progress:
    """A progress bar on a terminal; otherwise (logs, CI) lines ever farther apart, fewer than 200 in a year."""

    def __init__(self, title: str, total: int):
        self.title, self.total, self.done = title, total, 0
        self.note = ""
        self.began = time.monotonic()
        self.next_line, self.next_note = self.began + pause(0), 0.0
        self.next_told = self.began
        self.bar: RichProgress | None = None
        if sys.stderr.isatty() and is_main_process():
            self.bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
                transient=True,
            )
            self.task: Any = self.bar.add_task(title, total=total, note="")

    def shows(self) -> bool:
        """Whether a note passed now would be shown soon; computing one may cost time on the device."""
        now = time.monotonic()
        if now < self.next_note:
            return False
        self.next_note = now + (0.5 if self.bar is not None else pause(now - self.began))
        return is_main_process()

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        """Adds ``steps`` to the completed count; ``note`` replaces the text after the bar."""
        self.done += steps
        self.note = self.note if note is None else note
        now = time.monotonic()
        if listeners and is_main_process() and now >= self.next_told:
            self.next_told = now + pause(now - self.began)
            for listener in listeners:
                listener(self.line(now))
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done, note=self.note)
        elif is_main_process() and now >= self.next_line:
            self.next_line = now + pause(now - self.began)
            print_line(self.line(now), sys.stderr)

    def line(self, now: float) -> str:
        """How far it is at the time ``now`` of the monotonic clock."""
        left = (now - self.began) / max(self.done, 1) * (self.total - self.done)
        return f"{self.title}: {self.done}/{self.total}, {left:.0f} s left {self.note}"

    def __enter__(self) -> Self:
        with suppress(OSError):
            if self.bar is not None:
                self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # the terminal was closed
            if self.bar is not None:
                self.bar.stop()
