"""Runs as a Makefile."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from stages.recipes.people import PAGE, to_do
from stages.recipes.plan import Run
from stages.recipes.profile import prepare_line
from stages.recipes.rules import Rule, exported
from stages.runtime.errors import NOTHING_LEFT, RUN_ENDS, BadInput
from stages.settings.plan_files import PLAN_MARK, SHARD

WIDTH = 118
# What make and the shell take as part of a file name everywhere in a rule, in targets and through variables
PLAIN_PATH = re.compile(r"[\w./,+@-]+")

# Order-only prerequisites: what people work on is made if it is missing, and stays whatever its inputs become
PEOPLE = [
    "# What people work on is made once: remove a ledger yourself to have its queries answered anew",
    "UNLESS_THERE = $(if $(wildcard $@),@:)",
    "",
]
LINKED = [
    "# What another run makes as well is made once. Where there are no hard links: make LINK='cp -pf'",
    "LINK ?= cp -lf",
    "",
]
ON_PAGE = [
    'NOBODY = echo "$@ needs answers on a page, and nobody is at a terminal. Run make on one." >&2; exit 1',
    "AT_TERMINAL = @test -e $@ || test -t 2 || { $(NOBODY); }",
    "",
]


def render(runs: Sequence[Run], dataset: Path, folder: Path, last: Sequence[Rule] = (), title: str = "") -> str:
    """The Makefile of ``runs`` in ``folder``; ``last`` is made of all, ``title`` says what they are, if several."""
    rules = [rule for run in runs for rule in run.rules]
    divided = [rule for rule in rules if rule.shards]
    skipped = skipped_at_an_end(rules)
    one = runs[0].name == ""
    known = {prepared: None for run in runs if (prepared := prepare_line(run.plan.recipe, run.plan.profile))}
    lines = [
        one_line(f"# {runs[0].title if one else title}. {PLAN_MARK}; plain make runs {'it' if one else 'them all'}:"),
        *(one_line(f"# Dataset: {prepared}") for prepared in known),
        f"#   make -f THIS{'    ' if one else ' -j2'}        run, or continue after a failure or an interruption",
        *([] if one else [f"#   make -f THIS {runs[0].name}", "#                           one run"]),
        "#   make -f THIS -n         show what is left to do",
        "#   make -f THIS -B         check each stage again; each rebuilds only what changed",
        '#   make -f THIS GPU="srun --gpus=1" CPU=srun TRAIN="torchrun --nproc-per-node 4 -m alseg_cli"',
        "",
        f"DATASET ?= {make_path(dataset)}",
        f"RUN ?= {make_path(folder)}",
        "ALSEG ?= alseg",
        "# What precedes the commands: of stages that run a network, and of all others",
        "LAUNCH ?=",
        "GPU ?= $(LAUNCH)",
        "CPU ?= $(LAUNCH)",
        "TRAIN ?= $(ALSEG)",
        "",
        *(LINKED if any(rule.same_as for rule in rules) else []),
        *(ending(f"$(filter-out %{SHARD},$^ $|)" if divided else "$^ $|") if skipped else []),
        *(PEOPLE if any(rule.by_people for rule in rules) else []),
        *(ON_PAGE if any(rule.stage == PAGE for rule in rules) else []),
        "ifneq ($(words $(DATASET)) $(words $(RUN)),1 1)",
        "$(error DATASET and RUN must each be a path without spaces)",
        "endif",
        "",
        *target_lines(".PHONY", ["all", *(run.name for run in runs if not one)]),
        *target_lines("all", [rule.target for rule in last] or [end for run in runs for end in run.ends]),
        *(line for rule in last for line in last_lines(rule)),
        "",
        "# A file is whole as soon as it exists, so make must not delete it when it is interrupted after that",
        *target_lines(".PRECIOUS", [rule.target for rule in rules]),
        *(shard_variables(divided) if divided else []),
    ]
    for run in runs:
        if not one:
            lines += ["", one_line(f"# {run.name} is {run.title}"), *target_lines(run.name, run.ends)]
        for rule in run.rules:
            lines += lines_of(rule, rule.target in skipped)
    return "\n".join(lines) + "\n"


def ending(files: str) -> list[str]:
    """What ends a run; ``files``: the inputs of a rule, as make writes them.

    What is skipped is skipped silently; `make -n` shows all rules, since their inputs may be made by then.
    """
    return [
        f"# The run ends where nothing is left to query (exit code {NOTHING_LEFT}): what lacks inputs is not made",
        f'OR_END = || {{ test $$? -eq {NOTHING_LEFT} && echo "{RUN_ENDS}"; }}',
        "DRY = $(findstring n,$(firstword -$(MAKEFLAGS)))",
        f"ENDED = $(if $(DRY),,$(shell for file in {files}; do test -e $$file || echo $$file; done))",
        "UNLESS_ENDED = $(if $(ENDED),@:)",
        "",
    ]


def target_lines(target: str, needs: Sequence[str]) -> list[str]:
    """A target with its prerequisites, one per line."""
    return (f"{target}: " + " \\\n  ".join(needs)).split("\n")


def lines_of(rule: Rule, skipped: bool) -> list[str]:
    """A rule; ``skipped``: not if the run has ended before it."""
    if rule.same_as:
        return link_lines(rule, skipped)
    return people_lines(rule, skipped) if rule.by_people else rule_lines(rule, skipped)


def link_lines(rule: Rule, skipped: bool) -> list[str]:
    """A rule whose target another rule makes, with the files beside it, such as a history."""
    ended = "$(UNLESS_ENDED) " if skipped else ""
    commands = [f"\t@{ended}mkdir -p $(@D)", f"\t@{ended}$(LINK) $(basename $<).* $(@D)/"]
    return ["", f"{rule.target}: {rule.same_as}", *commands]


def rule_lines(rule: Rule, skipped: bool) -> list[str]:
    """A rule with its command, after those of its shards, if it is divided."""
    *parts, last = [[*(["$(UNLESS_ENDED)"] if skipped else []), *programs(rule), *rule.parts[0]], *rule.parts[1:]]
    parts.append([*last, "$(OR_END)"] if rule.may_end else last)
    needs = [*rule.needs, *([shard_targets(rule)] if rule.shards else [])]
    lines = shard_lines(rule, skipped) if rule.shards else []
    lines += ["", f"{rule.target}: {' '.join(needs)}", *wrapped(parts)]
    lines += [f"\t@rm -rf {rule.removed}"] if rule.removed else []
    return [*lines, "\t@touch -c $@"]  # an up-to-date output is not rewritten, so make would rerun it each time


def shard_variables(divided: Sequence[Rule]) -> list[str]:
    """What the rules of shards have in common.

    No command makes the file of such a target. As a secondary one it is made only if what is made of it is missing or
    older than its inputs, so nothing is left to do once the stage has joined its shards.
    """
    numbers = sorted({rule.shards for rule in divided})
    return [
        "",
        "# Divided stages: a target per shard that stands for no file; the stage joins them and builds what is missing",
        *(
            f"SHARDS_{number} = {' '.join(f'{each}-of-{number}{SHARD}' for each in range(number))}"
            for number in numbers
        ),
        "SHARD_OF = $(subst -of-,/,$*)",
        *target_lines(".SECONDARY", [shard_targets(rule) for rule in divided]),
    ]


def shard_targets(rule: Rule) -> str:
    """The targets of the shards of ``rule``."""
    return f"$(addprefix {rule.shard_prefix},$(SHARDS_{rule.shards}))"


def shard_lines(rule: Rule, skipped: bool) -> list[str]:
    """A rule for the shards of a divided stage."""
    head = f"{shard_targets(rule)}: {rule.shard_prefix}%{SHARD}: {' '.join(rule.needs)}"
    ended = ["$(UNLESS_ENDED)"] if skipped else []
    first, *parts = rule.shard_parts
    return ["", head, *wrapped([[*ended, *programs(rule), *first], *parts, ["--shard", "$(SHARD_OF)"]])]


def programs(rule: Rule) -> list[str]:
    """What precedes the words of a command."""
    return ["$(GPU)" if rule.on_device else "$(CPU)", "$(TRAIN)" if rule.stage == "train" else "$(ALSEG)"]


def last_lines(rule: Rule) -> list[str]:
    """A rule that shows what the runs have measured; it runs where make does, in seconds."""
    return ["", *target_lines(rule.target, rule.needs), *wrapped([["$(ALSEG)"], *rule.parts])]


def people_lines(rule: Rule, skipped: bool) -> list[str]:
    """A rule whose target people work on, and one that says what they have to bring, if they do."""
    ended = ["$(UNLESS_ENDED)"] if skipped else []
    lines: list[str] = []
    if rule.awaits:
        told = f'@test -e $@ || {{ echo "{to_do(exported(rule), rule.awaits)}, then run make again."; exit 1; }}'
        lines += ["", f"{rule.awaits}: | {exported(rule)}", f"\t{' '.join([*ended, told])}"]
    lines += ["", f"{rule.target}: | {' '.join(rule.needs)}"]
    if rule.stage == PAGE:
        lines.append(f"\t{' '.join([*ended, '$(AT_TERMINAL)'])}")
    first = [*ended, "$(UNLESS_THERE)", "$(ALSEG)", *rule.parts[0]]
    return [*lines, *wrapped([first, *rule.parts[1:]])]


def skipped_at_an_end(rules: Sequence[Rule]) -> set[str]:
    """The targets that are not made once nothing is left to query: the queries, and all that is made of them."""
    found: set[str] = set()
    for rule in rules:
        if rule.may_end or not found.isdisjoint(rule.needs):
            found.add(rule.target)
    return found


def one_line(comment: str) -> str:
    """``comment`` without line breaks and control characters, which would end it."""
    return " ".join("".join(character if character.isprintable() else " " for character in comment).split())


def wrapped(parts: list[list[str]]) -> list[str]:
    """A recipe line, wrapped with backslashes between ``parts`` if it is too long."""
    lines, line = [], "\t"
    for text in map(" ".join, parts):
        if len(line) + len(text) > WIDTH and line.strip():
            lines.append(line.rstrip(" ") + " \\")
            line = "\t  "
        line += text + " "
    return [*lines, line.rstrip(" ")]


def make_path(path: Path) -> str:
    """``path`` as the value of a variable that targets and recipe lines contain; BadInput if make cannot take it."""
    text = os.fspath(path)
    if not PLAIN_PATH.fullmatch(text) or text.startswith("-"):
        raise BadInput(
            f"{text!r} has a character that make does not allow in a file name. Use letters, digits and . / , + @ _ - "
            "with no - at the start."
        )
    return text
