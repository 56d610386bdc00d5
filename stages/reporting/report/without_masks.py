"""What a run says without masks: models beside new answers, people beside one another, and the next round."""

from contextlib import suppress
from typing import Any

from stages.artifacts.annotations import Annotations
from stages.reporting.people import gold_of, people_of
from stages.reporting.quality import outlook, people_table, read_on_answers
from stages.reporting.report.collect import Run
from stages.runtime.errors import BadInput


def without_masks(run: Run, checkpoint: str) -> dict[str, Any] | None:
    """The tables of one run; None if there is nothing to say."""
    rounds = []
    for node in run.of_kind("evaluation"):
        with suppress(BadInput):  # the notes of the run name damaged evaluations
            found = read_on_answers(node.path, checkpoint)
            rounds += [] if found is None else [found]
    curve = [(entry.clicks, entry.miou) for entry in run.measured if entry.split != "answers"]
    prospect, told = outlook(curve, rounds)
    if prospect is None and not rounds:  # a run with masks and few rounds
        told = ""
    people = tables_of_people(run)
    if not (told or rounds or people):
        return None
    return {"run": run, "rounds": rounds, "told": told[:1].upper() + told[1:], "people": people}


def on_top(view: dict[str, Any]) -> list[str]:
    """How far the last model agreed with the answers that followed, and what comes next, in sentences."""
    if not view["rounds"]:
        return []
    last = view["rounds"][-1]
    which = "of the new pixels drawn at random" if last.control else "of the new answers, harder than average"
    agreed = (
        f"{view['run'].name}: the last model that could be judged agreed with people on {last.fair.told} % {which}."
    )
    return [agreed, *([f"{view['told']}."] if view["told"] else [])]


def tables_of_people(run: Run) -> list[dict[str, Any]]:
    """The agreement among people and with known answers in the last ledger of the run, if it can be read."""
    ledgers = run.of_kind("annotations")
    try:
        with Annotations(ledgers[-1].path) as ledger:
            tables = [("Queries answered twice", people_of(ledger)), ("Queries with known answers", gold_of(ledger))]
    except (BadInput, IndexError):  # of an earlier version, or there is none
        return []
    return [
        {
            "title": title,
            "rows": people_table(found),
            "classes": [(each.who, [(name, value) for name, value in each.classes.items()]) for each in found],
        }
        for title, found in tables
        if found
    ]
