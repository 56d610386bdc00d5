"""`alseg status`: where a run stands, what it cost, and what comes next."""

import json
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from stages.artifacts.annotations import Annotations
from stages.artifacts.journals import find_journals
from stages.artifacts.locks import lock_path
from stages.artifacts.publish import publish_bytes
from stages.artifacts.queries import Queries
from stages.recipes.following import Command, Following, follow
from stages.recipes.people import LEDGERS, PAGE, to_do
from stages.reporting.measured import measured
from stages.reporting.people import Agreed, gold_of, people_of
from stages.reporting.quality import KNOWN, TWICE, OnAnswers, outlook, people_table, read_on_answers
from stages.runtime.console import print_table
from stages.runtime.errors import RUN_ENDS

LAST, FINISHED = "last", "finished"
LEGEND = (
    "agreed: how often the model of the round before predicted the new answers; queries selected by score are harder "
    "than others. at random: the same for queries drawn at random, with a 95 % interval."
)


@dataclass
class Round:
    """What is known of a round; costs are those up to it. ``answered``: queries of the round with an answer."""

    round: int
    queries: int | None = None
    answered: int | None = None
    clicks: float | None = None
    minutes: float | None = None
    miou: float | None = None
    on_answers: OnAnswers | None = None


def show_status(run: Path, as_json: bool) -> None:
    """Prints the rounds of the run folder ``run`` and the next step; as JSON if asked for."""
    following = follow(run)
    rounds = rounds_of_run(following)
    coming = next_command(following)
    told = next_step(following, coming)
    on_answers = [each.on_answers for each in rounds if each.on_answers is not None]
    curve = [(each.clicks, each.miou) for each in rounds if each.clicks is not None and each.miou is not None]
    prospect, in_words = outlook(curve, on_answers)
    people, gold = quality_of_answers(following)
    if as_json:
        state: dict[str, Any] = {"run": str(run), "recipe": following.file.recipe}
        state |= {"rounds": [asdict(each) for each in rounds]}
        state |= {"forecast": None if prospect is None else asdict(prospect)}
        state |= {"people": [asdict(each) for each in people], "gold": [asdict(each) for each in gold]}
        print(
            json.dumps(
                state | {"next": told, "finished": told.startswith(FINISHED), "notes": following.notes}, indent=1
            )
        )
        return
    print_table(rounds_table(rounds))
    if on_answers:
        print(LEGEND)
    for title, found in ((TWICE, people), (KNOWN, gold)):
        if found:
            print_table(agreement_table(people_table(found, title)))
    if in_words:
        print(in_words)
    for note in following.notes:
        print(note)
    print(told)


def rounds_table(rounds: Sequence[Round]) -> Table:
    """A row per round, with the agreement of models and new answers if there is any."""
    agreed = any(each.on_answers is not None for each in rounds)
    more = ["agreed %", "at random %"] if agreed else []
    table = Table("round", "queries", "answered", "clicks", "minutes", "mIoU", *more, box=None, pad_edge=False)
    for each in rounds:
        found = each.on_answers
        cells = ["" if found is None else f"{found.every.share:.1f}"]
        cells += ["" if found is None or found.control is None else found.control.told]
        table.add_row(
            str(each.round),
            *("" if value is None else f"{value:.0f}" for value in (each.queries, each.answered, each.clicks)),
            "" if each.minutes is None else f"{each.minutes:.1f}",
            "" if each.miou is None else f"{each.miou:.1f}",
            *(cells if agreed else []),
        )
    return table


def agreement_table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(*rows[0], box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    return table


def quality_of_answers(following: Following) -> tuple[list[Agreed], list[Agreed]]:
    """How far people agree with one another, and with known answers, in the last ledger of the run."""
    written = [each.output for each in following.commands if each.stage in LEDGERS and each.output.is_file()]
    if not written:
        return [], []
    with Annotations(written[-1]) as ledger:
        return people_of(ledger), gold_of(ledger)


def rounds_of_run(following: Following) -> list[Round]:
    """The rounds that have begun."""
    found: dict[int, Round] = {}
    for command in following.commands:
        entry = found.setdefault(command.round, Round(command.round))
        if command.output.is_file():
            note_output(entry, command)
        elif command.stage == PAGE and entry.queries is not None:
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
            entry.on_answers = read_on_answers(command.output, LAST)
            rows = measured(command.output, LAST) if entry.on_answers is None else []
            entry.miou = rows[0].miou if rows else entry.miou


def answers_in_journals(output: Path) -> int:
    """Queries that people answered so far for a ledger that is not written yet."""
    queries = set()
    for path in find_journals(output):
        for line in path.read_bytes().splitlines():
            with suppress(ValueError, KeyError, TypeError):  # the first and the last line, or one half written
                queries.add(json.loads(line)["query"])
    return len(queries)


def next_command(following: Following) -> Command | None:
    """The first command whose output does not exist, or waits for people to finish changes; None if there is none."""
    return next((each for each in following.commands if not each.output.exists() or each.waits), None)


def end_path(run: Path) -> Path:
    """What `next` writes if a run ends early: the words of the command that found nothing left to query, and why."""
    return run / "ended.json"


def note_end(run: Path, command: Command, why: str) -> None:
    publish_bytes(end_path(run), (json.dumps({"words": command.words, "why": why}) + "\n").encode())


def noted_end(run: Path, command: Command) -> str | None:
    """Why the run ends before ``command``; None if it did not, or if the command is another one by now."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(end_path(run).read_bytes())
        return str(found["why"]) if found["words"] == command.words else None
    return None


def next_step(following: Following, coming: Command | None) -> str:
    """What comes next, in words."""
    folder = shlex.quote(str(following.folder))
    if coming is None:
        return f"{FINISHED}: {following.folder} has all its rounds. For more, raise rounds in run.toml."
    if why := noted_end(following.folder, coming):
        return f"{FINISHED}: {why} {RUN_ENDS}"
    if coming.is_edited:
        return f"next: finish the changed answers of round {coming.round}: alseg next {folder} --page"
    if lock_path(coming.output).exists():
        return f"running: {coming.stage} of round {coming.round} ({coming.output})"
    if coming.waits and coming.awaits is None:
        return f"next: answer the queries of round {coming.round}: alseg next {folder} --page"
    if coming.waits:
        told = waiting(coming)
        return f"next: {told[:1].lower()}{told[1:]}: alseg next {folder}"
    return f"next: {coming.stage} of round {coming.round}: alseg next {folder}"


def waiting(command: Command) -> str:
    """What people do before a command that waits for them."""
    if command.awaits is None:
        return "Answer them on its page"
    brought, exported = command.awaits
    return f"{to_do(str(exported), str(brought))}, then run"
