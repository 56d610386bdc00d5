"""Stages of a plan that are divided: processes of their own each do a shard, and the plain command joins them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from stages.recipes.plan import Run
from stages.recipes.rules import Rule
from stages.registry import STAGES
from stages.runtime.errors import BadInput

EVERY = ""
"""Stands for all stages that can be divided and take long."""
LONG = {"device", "workers"}
"""Settings of what takes long, because it runs a network or several processes; random scores do neither."""
MOST = 1000


def divisible_stages() -> list[str]:
    """The stages of plans that take --shard."""
    return [name for name, stage in STAGES.items() if stage.shards and stage.plannable]


def parse_shards(text: str) -> dict[str, int]:
    """The number of shards by stage, or of `EVERY` other, that ``text`` names, such as 16 or score=16,evaluate=4.

    BadInput for anything else.
    """
    found: dict[str, int] = {}
    for word in text.split(","):
        stage, equals, number = word.strip().rpartition("=")
        if equals and stage not in divisible_stages():
            raise BadInput(f"--shards: {stage!r} cannot be divided. Name any of {', '.join(divisible_stages())}.")
        if not re.fullmatch("[0-9]{1,9}", number) or not 1 <= int(number) <= MOST:
            raise BadInput(
                f"--shards must be a number from 1 to {MOST}, STAGE=NUMBER, or several of both, not {text!r}."
            )
        if stage in found:
            raise BadInput(f"--shards {text}: two numbers for {stage or 'all stages'}. Pass one of them.")
        found[stage] = int(number)
    return found


def divided(runs: Sequence[Run], shards: Mapping[str, int], notes: dict[str, None]) -> list[Run]:
    """``runs`` whose rules have the number of shards that ``shards`` gives their stage.

    What another run makes, and what the settings exclude, stays whole; the latter is added to ``notes``. BadInput for
    stages of ``shards`` that no run has, and if nothing is divided.
    """
    if not shards:
        return list(runs)
    every = [rule for run in runs for rule in run.rules]
    faults = [
        f"--shards {stage}={number}: no recipe of this plan has the stage. Leave it out."
        for stage, number in shards.items()
        if stage != EVERY and all(rule.stage != stage for rule in every)
    ]
    if faults:
        raise BadInput(faults)
    found = [replace(run, rules=[with_shards(rule, shards, notes) for rule in run.rules]) for run in runs]
    if max(shards.values()) > 1 and not any(rule.shards for run in found for rule in run.rules):
        raise BadInput("--shards: no stage of this plan can be divided. Leave it out.")
    return found


def with_shards(rule: Rule, shards: Mapping[str, int], notes: dict[str, None]) -> Rule:
    """``rule`` with its number of shards, if it is one that can be divided."""
    if rule.same_as or rule.settings is None or rule.stage not in divisible_stages():
        return rule
    number = shards.get(rule.stage)
    if number is None:
        number = 1 if LONG.isdisjoint(rule.settings.flat()) else shards.get(EVERY, 1)
    if number == 1:
        return rule
    if not rule.settings.divisible:
        name = rule.target.rpartition("/")[2].rpartition(".")[0]
        notes[f"step {name} is not divided: with its settings {rule.stage} has no --shard"] = None
        return rule
    return replace(rule, shards=number)
