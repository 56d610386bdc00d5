"""The commands of a run folder, in order: those of its plan, with people in place of the simulation if it says so."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stages.artifacts.dataset import Dataset
from stages.recipes.checks import dataset_faults
from stages.recipes.plan import Plan, Rule, build_rules, check_settings, quoted, rounds_of_budget, with_files
from stages.recipes.profile import load_profile, rounds_of
from stages.recipes.recipe import Recipe, Step, Values, load_recipe
from stages.recipes.resolve import dataset_defaults
from stages.recipes.run_file import RunFile, file_or_name, read_run_file
from stages.runtime.errors import BadInput

SIMULATED, PEOPLE = "annotate-simulate", "annotate"
VARIABLE = re.compile(r"\$\$|\$\(DATASET\)|\$\(RUN\)|\$@")
ROUND = re.compile(r"\$\(RUN\)/round-(\d+)/")


@dataclass(frozen=True)
class Command:
    """A stage of a run: its words after `alseg`, its output, its round (0: also what is made once).

    ``may_end``: if it finds nothing left to query, the run ends without an error.
    """

    words: list[str]
    output: Path
    round: int
    removed: Path | None
    may_end: bool

    @property
    def stage(self) -> str:
        return self.words[0]


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
            rules = with_labels(rules, annotations_of(plan.recipe), labels)
        for change in file.changes:
            other = plan_of(run, file, change.recipe, file.settings | change.settings, data, notes)
            rules = changed(rules, build_rules(other, rounds, common_words(run, file, change.recipe)), change.round)
    return Following(run, file, dataset, [command(rule, dataset, run) for rule in rules], list(dict.fromkeys(notes)))


def plan_of(run: Path, file: RunFile, name: str, settings: dict[str, Values], data: Dataset, notes: list[str]) -> Plan:
    """The plan of a recipe in this run; what it leaves out is added to ``notes``."""
    recipe = load_recipe(file_or_name(run, name))
    if not recipe.steps:
        raise BadInput(f"Recipe {recipe.name} has no steps; use one that lists [[steps]].")
    if file.answers == "people":
        recipe = with_people(recipe)
    profile = None if file.profile is None else file_or_name(run, file.profile)
    plan = Plan(recipe, load_profile(profile), settings, dataset_defaults(data.path))
    blind = [step for step in recipe.steps if step.stage == "evaluate" and not has_truth(plan, step, data)]
    if blind:
        split = plan.settings(blind[0]).flat()["split"]
        steps = on_answers(plan, blind)
        instead = "each model is evaluated on the answers of the next round" if steps else "nothing is evaluated"
        notes.append(f"split {split!r} has no masks: {instead}")
        plan = replace(plan, recipe=with_steps(recipe, blind, steps))
    check_settings(plan)
    faults = dataset_faults(data, [(step, plan.settings(step)) for step in plan.recipe.steps])
    if faults:
        raise BadInput(faults)
    return plan


def on_answers(plan: Plan, blind: Sequence[Step]) -> list[Step]:
    """Steps that evaluate on answers what the steps ``blind`` evaluate on masks that there are not.

    Only for answers that name classes of pixels or regions, or are masks.
    """
    asking = answering_steps(plan.recipe)
    asked = [
        plan.settings(step).flat().get("image_answer", "mask") for step in plan.recipe.steps if step.stage == "select"
    ]
    if not asking or set(asked) != {"mask"}:
        return []
    return [
        Step(
            name=f"{step.name.removesuffix('evaluation')}agreement",
            stage="evaluate",
            rounds="later",
            reads={"models": f"{step.reads['models']}@before", "annotations": asking[-1].name},
        )
        for step in blind
        if step.rounds == "all"
    ]


def with_steps(recipe: Recipe, without: Sequence[Step], added: Sequence[Step]) -> Recipe:
    """``recipe`` without some steps and with the steps ``added`` right after the answers."""
    steps = [step for step in recipe.steps if step not in without]
    place = max((steps.index(step) + 1 for step in answering_steps(recipe)), default=0)
    return recipe.model_copy(update={"steps": [*steps[:place], *added, *steps[place:]]})


def answering_steps(recipe: Recipe) -> list[Step]:
    """The steps in which queries are answered."""
    return [step for step in recipe.steps if step.stage in (SIMULATED, PEOPLE)]


def has_truth(plan: Plan, step: Step, data: Dataset) -> bool:
    return data.has_masks(plan.settings(step).flat()["split"])


def common_words(run: Path, file: RunFile, recipe: str) -> list[list[str]]:
    profile = [["--profile", file_or_name(run, file.profile)]] if file.profile else []
    return [["--recipe", file_or_name(run, recipe)], *profile]


def with_people(recipe: Recipe) -> Recipe:
    """``recipe`` with the page in place of the simulated annotator, whose settings do not apply to people."""
    steps = [
        step.model_copy(update={"stage": PEOPLE, "settings": {}}) if step.stage == SIMULATED else step
        for step in recipe.steps
    ]
    settings = {stage: values for stage, values in recipe.settings.items() if stage != SIMULATED}
    return recipe.model_copy(update={"steps": steps, "settings": settings})


def annotations_of(recipe: Recipe) -> str:
    """The file with the answers of round 0 in a plan of ``recipe``."""
    return f"$(RUN)/round-0/{answering_steps(recipe)[0].name}.h5"


def with_labels(rules: Sequence[Rule], answers: str, labels: Path) -> list[Rule]:
    """``rules`` with the ledger ``labels`` in the place of ``answers``, and without what only led to them."""
    removed = {answers}
    for rule in reversed(rules):
        readers = [other for other in rules if rule.target in other.needs]
        if rule.target != answers and readers and all(other.target in removed for other in readers):
            removed.add(rule.target)
    return [with_files(rule, {answers: quoted(str(labels))}) for rule in rules if rule.target not in removed]


def changed(before: Sequence[Rule], after: Sequence[Rule], start: int) -> list[Rule]:
    """The rules of one recipe in the rounds below ``start``, and those of another from then on.

    What the other makes once has a folder of its own. BadInput if it reads what the first one does not write.
    """
    kept = [rule for rule in before if round_of(rule) < start]
    own = {rule.target for rule in after if ROUND.match(rule.target) is None}
    moved = {target: target.replace("$(RUN)/", f"$(RUN)/from-round-{start}/", 1) for target in own}
    later = [with_files(rule, moved) for rule in after if rule.target in own or round_of(rule) >= start]
    written = {rule.target for rule in (*kept, *later)} | {"$(DATASET)"}
    later = [rule for rule in later if not evaluates_answers(rule) or set(rule.needs) <= written]
    for rule in later:
        for need in rule.needs:
            if need not in written and need.startswith("$(RUN)/"):
                raise BadInput(
                    f"The recipe from round {start} on reads {need.removeprefix('$(RUN)/')}, which the recipe before "
                    "does not write. Choose another recipe in run.toml."
                )
    return [*kept, *later]


def evaluates_answers(rule: Rule) -> bool:
    return rule.words[0] == "evaluate" and "--annotations" in rule.words


def round_of(rule: Rule) -> int:
    found = ROUND.match(rule.target)
    return int(found[1]) if found else 0


def command(rule: Rule, dataset: Path, run: Path) -> Command:
    """What the shell would run for ``rule``."""
    values = {"$$": "$", "$(DATASET)": shlex.quote(str(dataset)), "$(RUN)": shlex.quote(str(run))}

    def plain(text: str) -> list[str]:
        return shlex.split(VARIABLE.sub(lambda found: (values | {"$@": plain_target})[found[0]], text))

    plain_target = VARIABLE.sub(lambda found: values[found[0]], rule.target)
    removed = Path(plain(rule.removed)[0]) if rule.removed else None
    target = Path(plain(rule.target)[0])
    return Command(plain(" ".join(rule.words)), target, round_of(rule), removed, rule.may_end)
