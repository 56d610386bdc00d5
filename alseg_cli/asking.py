"""What `alseg init` cannot tell from the files is asked on a terminal; without one its options decide."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from stages.recipes.start import Wishes, parse_shares
from stages.runtime.errors import BadInput, Undecided

# Option -> what is asked, and how the answer is read
QUESTIONS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "classes": ("Classes (NAME, NAME=VALUE or NAME=#RRGGBB, separated by commas)", str.strip),
    "masks": ("Folder with the masks", lambda text: Path(text.strip()).expanduser()),
    "shares": ("Shares of images for train, val and test (such as 0.7,0.1,0.2)", parse_shares),
}


def at_terminal() -> bool:
    """Whether a person can be asked: questions go to standard error, answers come from standard input."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def asked_until_decided(wishes: Wishes, begin: Callable[[Wishes], None]) -> None:
    """Calls ``begin``; on a terminal again with what a person answers, until nothing is undecided."""
    option = ""
    while True:
        try:
            begin(wishes)
            return
        except BadInput as error:
            if isinstance(error, Undecided):
                option = error.option
            elif not (option and all(fault.startswith(f"--{option}") for fault in error.faults)):
                raise  # not about the last answer
            if not at_terminal():
                raise
            wishes = replace(wishes, **{option: answer_to(error, option)})


def answer_to(error: BadInput, option: str) -> Any:
    """What a person answers to the fault, asked again until it can be read."""
    question, read = QUESTIONS[option]
    told = error.faults
    while True:
        for fault in told:
            typer.echo(fault, err=True)
        try:
            return read(typer.prompt(question, err=True))
        except BadInput as wrong:
            told = wrong.faults
