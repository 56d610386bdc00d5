"""A run as a Makefile."""

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.artifacts.dataset import Dataset
from stages.artifacts.request import publish_extra
from stages.recipes.people import PAGE, Way, to_do
from stages.recipes.plan import (
    Plan,
    Rule,
    annotations_of,
    build_rules,
    exported,
    fitted,
    read_plan,
    rounds_of_budget,
    shared_files,
    with_files,
    with_labels,
    without_blind,
)
from stages.recipes.profile import prepare_line, rounds_of
from stages.recipes.resolve import dataset_defaults
from stages.registry import STAGES
from stages.runtime.console import say
from stages.runtime.errors import NOTHING_LEFT, RUN_ENDS, BadInput

WIDTH = 118
# What make and the shell take as part of a file name everywhere in a rule, in targets and through variables
PLAIN_PATH = re.compile(r"[\w./,+@-]+")

# What is skipped is skipped silently; `make -n` shows all rules, since their inputs may be made by then
ENDING = [
    f"# The run ends if a round finds nothing left to query (exit code {NOTHING_LEFT}): what lacks inputs is not made",
    f'OR_END = || {{ test $$? -eq {NOTHING_LEFT} && echo "{RUN_ENDS}"; }}',
    "DRY = $(findstring n,$(firstword -$(MAKEFLAGS)))",
    "ENDED = $(if $(DRY),,$(shell for file in $^ $|; do test -e $$file || echo $$file; done))",
    "UNLESS_ENDED = $(if $(ENDED),@:)",
    "",
]
# Order-only prerequisites: what people work on is made if it is missing, and stays whatever its inputs become
PEOPLE = [
    "# What people work on is made once: remove a ledger yourself to have its queries answered anew",
    "UNLESS_THERE = $(if $(wildcard $@),@:)",
    "",
]
ON_PAGE = [
    'NOBODY = echo "$@ needs answers on a page, and nobody is at a terminal. Run make on one." >&2; exit 1',
    "AT_TERMINAL = @test -e $@ || test -t 2 || { $(NOBODY); }",
    "",
]


@dataclass(frozen=True)
class Planned:
    """The Makefile of a run, its number of rules and of rounds, and what the user should know of it."""

    text: str
    rules: int
    rounds: int
    notes: list[str]


def write_plan(
    recipe_name: str,
    dataset: Path,
    output: Path | None,
    run: Path | None,
    profile: str | None,
    rounds: int | None,
    overrides: list[str],
    plugins: list[Path] | None = None,
    people: Way | None = None,
    labels: Path | None = None,
) -> None:
    """Writes (or prints) the Makefile of ``rounds`` rounds of a recipe on a prepared dataset.

    Raises BadInput with all faults of the recipe, the overrides and the dataset that would make a run fail.
    """
    made = plan_run(recipe_name, dataset, run, profile, rounds, overrides, plugins, people=people, labels=labels)
    if output is not None:  # otherwise the Makefile itself is printed
        for note in made.notes:
            say(f"note: {note}")
    if output is None:
        print(made.text, end="", flush=True)
        return
    publish_extra(output, os.fsencode(made.text))
    said = f"wrote {output}: {made.rules} rules, {made.rounds} rounds"
    say(f"{said}; run it with `make -f {shlex.quote(str(output))}`")


def plan_run(
    recipe_name: str,
    dataset: Path,
    run: Path | None,
    profile: str | None,
    rounds: int | None,
    overrides: Sequence[str],
    plugins: list[Path] | None = None,
    shared: Path | None = None,
    people: Way | None = None,
    labels: Path | None = None,
) -> Planned:
    """The Makefile of ``rounds`` rounds in ``run``; the artifacts of `shared_steps` are in ``shared``, if given.

    ``people``: the way in which people answer; None: answers are simulated. ``labels``: a ledger that takes the place
    of the answers of round 0. Raises BadInput with all faults of the recipe, the overrides and the dataset that would
    make a run fail.
    """
    plan = read_plan(recipe_name, profile, overrides, dataset_defaults(dataset), people)
    by_hand = [f"{step.name} ({step.stage})" for step in plan.recipe.steps if not STAGES[step.stage].plannable]
    if by_hand and people is None:
        raise BadInput(f"Recipe {plan.recipe.name}: {', '.join(by_hand)} needs people. Pass --people page or files.")
    with Dataset(dataset) as data:
        notes: list[str] = []
        if people is not None:
            plan, notes = without_blind(plan, data)
        plan = fitted(plan, data)
        given = rounds or rounds_of(plan.recipe, plan.profile)
        count = rounds_of_budget(plan, data) if given == "budget" else given
        if not plan.profile.fits(name := data.attributes["name"]):
            notes.append(f"profile {profile} is for dataset {plan.profile.dataset}, but this is {name}")
    common = [["--recipe", recipe_name], *([["--profile", profile]] if profile else [])]
    common += [["--plugin", str(plugin)] for plugin in plugins or []]
    rules = build_rules(plan, count, common)
    if labels is not None:
        rules = with_labels(rules, annotations_of(plan.recipe), make_path(labels))
    if shared is not None:
        rules = [with_files(rule, shared_files(plan.recipe)) for rule in rules]
    text = render(plan, rules, dataset, run or Path("runs") / plan.recipe.name, count, shared)
    return Planned(text, len(rules), count, notes)


def render(plan: Plan, rules: list[Rule], dataset: Path, run: Path, rounds: int, shared: Path | None = None) -> str:
    """The Makefile's text."""
    on = f", profile {plan.profile.name}" if plan.profile.name else ""
    evaluations = [rule for rule in rules if rule.stage == "evaluate"]
    ends = [rule.target for rule in evaluations]
    if all(rule.on_answers for rule in evaluations):  # the last model is evaluated by the next round, if there is one
        ends.append(rules[-1].target)
    skipped = skipped_at_an_end(rules)
    lines = [
        one_line(f"# {plan.recipe.title}: {rounds} rounds{on}. Written by `alseg plan`; plain make runs it:"),
        *([one_line(f"# Dataset: {prepared}")] if (prepared := prepare_line(plan.recipe, plan.profile)) else []),
        "#   make -f THIS            run, or continue after a failure or an interruption",
        "#   make -f THIS -n         show what is left to do",
        "#   make -f THIS -B         check each stage again; each rebuilds only what changed",
        '#   make -f THIS LAUNCH="srun --gpus=1" TRAIN="torchrun --nproc-per-node 4 -m alseg_cli"',
        "",
        f"DATASET ?= {make_path(dataset)}",
        f"RUN ?= {make_path(run)}",
        *([] if shared is None else [f"SHARED ?= {make_path(shared)}"]),
        "ALSEG ?= alseg",
        "LAUNCH ?=",
        "TRAIN ?= $(ALSEG)",
        "",
        *(ENDING if skipped else []),
        *(PEOPLE if any(rule.by_people for rule in rules) else []),
        *(ON_PAGE if any(rule.stage == PAGE for rule in rules) else []),
        "ifneq ($(words $(DATASET)) $(words $(RUN)),1 1)",
        "$(error DATASET and RUN must each be a path without spaces)",
        "endif",
        "",
        ".PHONY: all",
        "all: " + " \\\n     ".join(ends),
        "",
        "# A file is whole as soon as it exists, so make must not delete it when it is interrupted after that",
        ".PRECIOUS: " + " \\\n  ".join(rule.target for rule in rules),
    ]
    for rule in rules:
        lines += (
            people_lines(rule, rule.target in skipped) if rule.by_people else rule_lines(rule, rule.target in skipped)
        )
    return "\n".join(lines) + "\n"


def rule_lines(rule: Rule, skipped: bool) -> list[str]:
    """A rule; ``skipped``: not if the run has ended before it."""
    program = ["$(LAUNCH)", "$(TRAIN)" if rule.stage == "train" else "$(ALSEG)"]
    *parts, last = [[*(["$(UNLESS_ENDED)"] if skipped else []), *program, *rule.parts[0]], *rule.parts[1:]]
    parts.append([*last, "$(OR_END)"] if rule.may_end else last)
    lines = ["", f"{rule.target}: {' '.join(rule.needs)}", *wrapped(parts)]
    lines += [f"\t@rm -rf {rule.removed}"] if rule.removed else []
    return [*lines, "\t@touch -c $@"]  # an up-to-date output is not rewritten, so make would rerun it each time


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
