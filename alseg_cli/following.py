"""`alseg next`: runs the commands of a run folder in this process, until people have to answer."""

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

from alseg_cli.exits import failures_noted
from stages.recipes.following import follow
from stages.recipes.people import PAGE
from stages.recipes.standing import end_path, next_command, next_step, note_end, waiting
from stages.runtime.console import say, without_lines
from stages.runtime.errors import RUN_ENDS, NothingLeft


def run_next(run: Path, page: bool, port: int, run_words: Callable[[list[str]], None]) -> None:
    """Runs each command whose output is not up to date; people answer on a page if ``page``, otherwise it stops there.

    ``run_words`` runs the command with these words. What people work on is kept, whatever its queries became.
    """
    following = follow(run)
    for note in following.notes:
        say(f"note: {note}")
    end_path(run).unlink(missing_ok=True)
    for command in following.commands:
        if command.by_people and command.output.exists() and not command.waits:
            continue
        if command.waits and not (page and command.stage == PAGE):
            changed = f"Answers of round {command.round} were changed after Finish. Finish them on their page:"
            say(changed if command.is_edited else f"Round {command.round} needs answers. {waiting(command)}:")
            say(f"  alseg next {shlex.quote(str(run))}{' --page' if command.stage == PAGE else ''}")
            if command.stage == PAGE:
                say(f"To serve the page alone: {shlex.join(['alseg', *command.words])}")
            return
        words = [*command.words, *(["--port", str(port)] if command.stage == PAGE else [])]
        try:
            with without_lines(" is up to date"), failures_noted(words):
                run_words(words)
        except NothingLeft as error:
            if not command.may_end:
                raise
            note_end(run, command, str(error))
            say(f"{error} {RUN_ENDS}")
            return
        if command.removed is not None:
            shutil.rmtree(command.removed, ignore_errors=True)
    say(next_step(following, next_command(following)))
