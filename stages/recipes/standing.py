"""`alseg status`: where a run stands, what it cost, and what comes next."""

import json
import shlex
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from stages.artifacts.annotations import Annotations
from stages.artifacts.journals import find_journals
from stages.artifacts.publish import lock_path
from stages.artifacts.queries import Queries
from stages.recipes.following import Command, Following, follow
from stages.recipes.people import PAGE, to_do
from stages.reporting.measured import measured
from stages.runtime.console import print_table

LAST = "last"


@dataclass
class Round:
    """What is known of a round; costs are those up to it. ``answered``: queries of the round with an answer."""

    round: int
    queries: int | None = None
    answered: int | None = None
    clicks: float | None = None
    minutes: float | None = None
    miou: float | None = None


def show_status(run: Path, as_json: bool) -> None:
    """Prints the rounds of the run folder ``run`` and the next step; as JSON if asked for."""
    following = follow(run)
    rounds = rounds_of_run(following)
    coming = next_command(following)
    told = next_step(following, coming)
    if as_json:
        state = {"run": str(run), "recipe": following.file.recipe, "rounds": [asdict(each) for each in rounds]}
        print(json.dumps(state | {"next": told, "finished": coming is None, "notes": following.notes}, indent=1))
        return
    table = Table("round", "queries", "answered", "clicks", "minutes", "mIoU", box=None, pad_edge=False)
    for each in rounds:
        table.add_row(
            str(each.round),
            *("" if value is None else f"{value:.0f}" for value in (each.queries, each.answered, each.clicks)),
            "" if each.minutes is None else f"{each.minutes:.1f}",
            "" if each.miou is None else f"{each.miou:.1f}",
        )
    print_table(table)
    for note in following.notes:
        print(note)
    print(told)


def rounds_of_run(following: Following) -> list[Round]:
    """The rounds that have begun."""
    found: dict[int, Round] = {}
    for command in following.commands:
        entry = found.setdefault(command.round, Round(command.round))
        if command.output.is_file():
            note_output(entry, command)
        elif command.stage == PAGE:
            entry.answered = answers_in_journals(command.output)
    return [each for each in found.values() if any(value is not None for value in list(asdict(each).values())[1:])]


def note_output(entry: Round, command: Command) -> None:
    """Adds what the output of ``command`` says to its round."""
    match command.stage:
        case "select":
            with Queries(command.output) as queries:
                entry.queries = len(queries)
        case "annotate" | "annotate-simulate" | "import-answers":
            with Annotations(command.output) as ledger:
                entry.answered = int((ledger.answers.round == ledger.next_round - 1).sum())
                cost = ledger.cost()
                entry.clicks, entry.minutes = cost["clicks"], cost["seconds"] / 60
        case "evaluate":
            rows = measured(command.output, LAST)
            entry.miou = rows[0].miou if rows else None


def answers_in_journals(output: Path) -> int:
    """Queries that people answered so far for a ledger that is not written yet."""
    queries = set()
    for path in find_journals(output):
        for line in path.read_bytes().splitlines():
            with suppress(ValueError, KeyError, TypeError):  # the first and the last line, or one half written
                queries.add(json.loads(line)["query"])
    return len(queries)


def next_command(following: Following) -> Command | None:
    """The first command whose output does not exist; None if all do."""
    return next((command for command in following.commands if not command.output.exists()), None)


def next_step(following: Following, coming: Command | None) -> str:
    """What comes next, in words."""
    folder = shlex.quote(str(following.folder))
    if coming is None:
        return f"finished: {following.folder} has all its rounds. For more, raise rounds in run.toml."
    if lock_path(coming.output).exists():
        return f"running: {coming.stage} of round {coming.round} ({coming.output})"
    if coming.waits and coming.awaits is None:
        return f"next: answer the queries of round {coming.round}: {page_command(coming)}"
    if coming.waits:
        told = waiting(coming)
        return f"next: {told[:1].lower()}{told[1:]}, then run alseg next {folder}"
    return f"next: {coming.stage} of round {coming.round}: alseg next {folder}"


def waiting(command: Command) -> str:
    """What people do before a command that waits for them."""
    if command.awaits is None:
        return "Serve its page"
    brought, exported = command.awaits
    return to_do(str(exported), str(brought))


def page_command(command: Command) -> str:
    return shlex.join(["alseg", *command.words])
