"""The commands of a run folder, in order: those of its plan, with people in place of the simulation if it says so."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.answering.journal import is_being_edited
from stages.artifacts.dataset import Dataset
from stages.artifacts.rounds import round_of
from stages.recipes.checks import require_learnable
from stages.recipes.people import PAGE, with_people
from stages.recipes.plan import (
    Plan,
    annotations_of,
    build_rules,
    fitted,
    quoted,
    rounds_of_budget,
    without_blind,
)
from stages.recipes.profile import load_profile, rounds_of
from stages.recipes.recipe import Values, load_recipe
from stages.recipes.resolve import dataset_defaults
from stages.recipes.rules import Rule, exported, with_files, with_labels
from stages.recipes.run_file import RunFile, file_or_name, read_run_file
from stages.runtime.errors import BadInput

VARIABLE = re.compile(r"\$\$|\$\(DATASET\)|\$\(RUN\)|\$@")


@dataclass(frozen=True)
class Command:
    """A stage of a run: its words after `alseg`, its output, its round (0: also what is made once).

    ``may_end``: if it finds nothing left to query, the run ends without an error. ``by_people``: people work on the
    output, so it is made once. ``awaits``: what people bring before, and the export that they fill in for it.
    ``needs``: the files that it reads.
    """

    words: list[str]
    output: Path
    round: int
    removed: Path | None
    may_end: bool
    by_people: bool
    awaits: tuple[Path, Path] | None
    needs: tuple[Path, ...] = ()

    @property
    def stage(self) -> str:
        return self.words[0]

    @property
    def is_edited(self) -> bool:
        """Whether somebody changed answers after the output was written, and did not finish."""
        return self.stage == PAGE and self.output.exists() and is_being_edited(self.output)

    @property
    def waits(self) -> bool:
        """Whether people have to answer before it can run, or to finish what they changed in their answers."""
        if self.output.exists():
            return self.is_edited
        return self.stage == PAGE or (self.awaits is not None and not self.awaits[0].exists())


@dataclass(frozen=True)
class Following:
    """A run folder with its commands, and what is left out of the recipe, in words."""

    folder: Path
    file: RunFile
    dataset: Path
    commands: list[Command]
    notes: list[str]


def follow(run: Path) -> Following:
    """The commands of the run folder ``run``; BadInput with all faults of run.toml, recipe, settings and dataset."""
    file = read_run_file(run)
    dataset = run / file.dataset
    labels = None if file.labels is None else run / file.labels
    notes: list[str] = []
    with Dataset(dataset) as data:
        plan = plan_of(run, file, file.recipe, file.settings, data, notes)
        count = file.rounds or rounds_of(plan.recipe, plan.profile)
        rounds = rounds_of_budget(plan, data) if count == "budget" else count
        rules = build_rules(plan, rounds, common_words(run, file, file.recipe))
        if labels is not None:
            require_learnable(labels, plan.recipe.steps, plan.settings)
            rules = with_labels(rules, annotations_of(plan.recipe), quoted(str(labels)))
        for change in file.changes:
            other = plan_of(run, file, change.recipe, file.settings | change.settings, data, notes)
            rules = changed(rules, build_rules(other, rounds, common_words(run, file, change.recipe)), change.round)
    return Following(run, file, dataset, [command(rule, dataset, run) for rule in rules], list(dict.fromkeys(notes)))


def plan_of(run: Path, file: RunFile, name: str, settings: dict[str, Values], data: Dataset, notes: list[str]) -> Plan:
    """The plan of a recipe in this run; what it leaves out is added to ``notes``."""
    recipe = load_recipe(file_or_name(run, name))
    if (way := file.people) is not None:
        recipe = with_people(recipe, way)
    profile = None if file.profile is None else file_or_name(run, file.profile)
    plan, told = without_blind(Plan(recipe, load_profile(profile), settings, dataset_defaults(data.path)), data)
    notes += told
    return fitted(plan, data)


def common_words(run: Path, file: RunFile, recipe: str) -> list[list[str]]:
    profile = [["--profile", file_or_name(run, file.profile)]] if file.profile else []
    return [["--recipe", file_or_name(run, recipe)], *profile]


def changed(before: Sequence[Rule], after: Sequence[Rule], start: int) -> list[Rule]:
    """The rules of one recipe in the rounds below ``start``, and those of another from then on.

    What the other makes once has a folder of its own. BadInput if it reads what the first one does not write.
    """
    kept = [rule for rule in before if round_or_first(rule) < start]
    own = {rule.target for rule in after if round_of(Path(rule.target)) is None}
    moved = {target: target.replace("$(RUN)/", f"$(RUN)/from-round-{start}/", 1) for target in own}
    later = [with_files(rule, moved) for rule in after if rule.target in own or round_or_first(rule) >= start]
    written = {rule.target for rule in (*kept, *later)} | {"$(DATASET)"}
    later = [rule for rule in later if not rule.on_answers or set(rule.needs) <= written]
    for rule in later:
        for need in rule.needs:
            if need not in written and need.startswith("$(RUN)/"):
                raise BadInput(
                    f"The recipe from round {start} on reads {need.removeprefix('$(RUN)/')}, which the recipe before "
                    "does not write. Choose another recipe in run.toml."
                )
    return [*kept, *later]


def round_or_first(rule: Rule) -> int:
    return round_of(Path(rule.target)) or 0


def command(rule: Rule, dataset: Path, run: Path) -> Command:
    """What the shell would run for ``rule``."""
    values = {"$$": "$", "$(DATASET)": shlex.quote(str(dataset)), "$(RUN)": shlex.quote(str(run))}

    def plain(text: str) -> list[str]:
        return shlex.split(VARIABLE.sub(lambda found: (values | {"$@": plain_target})[found[0]], text))

    def path(text: str) -> Path:
        return Path(plain(text)[0])

    plain_target = VARIABLE.sub(lambda found: values[found[0]], rule.target)
    return Command(
        words=plain(" ".join(rule.words)),
        output=path(rule.target),
        round=round_or_first(rule),
        removed=path(rule.removed) if rule.removed else None,
        may_end=rule.may_end,
        by_people=rule.by_people,
        awaits=(path(rule.awaits), path(exported(rule))) if rule.awaits else None,
        needs=tuple(map(path, rule.needs)),
    )
