"""`alseg next`: runs the commands of a run folder in this process, until people have to answer."""

import shutil
from collections.abc import Callable
from pathlib import Path

from stages.recipes.following import PEOPLE, follow
from stages.recipes.standing import next_command, next_step, page_command
from stages.runtime.console import say, without_lines
from stages.runtime.errors import NothingLeft


def run_next(run: Path, page: bool, port: int, run_words: Callable[[list[str]], None]) -> None:
    """Runs each command whose output is not up to date; people answer on a page if ``page``, otherwise it stops there.

    ``run_words`` runs the command with these words. A ledger of people is kept as it is, whatever its queries became.
    """
    following = follow(run)
    for note in following.notes:
        say(f"note: {note}")
    for command in following.commands:
        if command.stage == PEOPLE and command.output.exists():
            continue
        if command.stage == PEOPLE and not page:
            say(f"Round {command.round} needs answers. Serve its page, then go on:")
            say(f"  {page_command(command)}")
            say(f"  alseg next {run}        (or alseg next {run} --page for both)")
            return
        words = [*command.words, *(["--port", str(port)] if command.stage == PEOPLE else [])]
        try:
            with without_lines(" is up to date"):
                run_words(words)
        except NothingLeft as error:
            if not command.may_end:
                raise
            say(f"{error} The run ends here.")
            return
        if command.removed is not None:
            shutil.rmtree(command.removed, ignore_errors=True)
    say(next_step(following, next_command(following)))
