"""A recipe as a Makefile: one rule per stage and round, real files as targets."""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stages.artifacts.dataset import Dataset
from stages.artifacts.request import publish_extra
from stages.recipes.checks import dataset_faults
from stages.recipes.profile import Profile, load_profile, prepare_line, rounds_of
from stages.recipes.recipe import Recipe, Step, Values, load_recipe
from stages.recipes.resolve import dataset_defaults, step_settings, step_values
from stages.registry import STAGES, Stage
from stages.runtime.console import say
from stages.runtime.errors import BadInput
from stages.settings.base import StageSettings, fields_of
from stages.settings.text import option_name, shown

WIDTH = 118
# What make and the shell take as part of a file name everywhere in a rule, in targets and through variables
PLAIN_PATH = re.compile(r"[\w./,+@-]+")

# What is skipped is skipped silently; `make -n` shows all rules, since their inputs may be made by then
ENDING = [
    "# The run ends early if a round finds nothing left to query (exit code 3): rules that lack inputs do nothing",
    'OR_END = || { test $$? -eq 3 && echo "The run ends here."; }',
    "DRY = $(findstring n,$(firstword -$(MAKEFLAGS)))",
    "UNLESS_ENDED = $(if $(DRY),,$(if $(shell for file in $^; do test -e $$file || echo $$file; done),@:))",
    "",
]


@dataclass(frozen=True)
class Rule:
    """One target: its file, its prerequisites, the parts of its command, and a folder to remove afterwards.

    An option with its value is one part. ``may_end``: if nothing is left to query, the run ends without an error.
    """

    target: str
    needs: list[str]
    parts: list[list[str]]
    removed: str = ""
    may_end: bool = False

    @property
    def words(self) -> list[str]:
        return [word for part in self.parts for word in part]


@dataclass(frozen=True)
class Plan:
    """A recipe under a profile with the user's overrides per stage or step, for a dataset with its own defaults."""

    recipe: Recipe
    profile: Profile
    overrides: Mapping[str, Values]
    defaults: Mapping[str, Values]
    known: dict[tuple[str, str], StageSettings] = field(init=False, default_factory=dict, compare=False, repr=False)

    def settings(self, step: Step) -> StageSettings:
        """The settings of ``step``, computed once."""
        place = step.name, step.rounds
        if place not in self.known:
            found = step_settings(self.recipe, self.profile, step, self.overrides, self.defaults)
            if step.stage == "evaluate":
                found = found.settled(step.name, truth="answers" if "annotations" in step.reads else "masks")
            self.known[place] = found
        return self.known[place]


def read_plan(
    recipe: str, profile: str | None = None, overrides: Sequence[str] = (), defaults: Mapping[str, Values] | None = None
) -> Plan:
    """A recipe and a profile (names or TOML files) with ``overrides`` as typed; BadInput if any is invalid."""
    found = load_recipe(recipe)
    return Plan(found, load_profile(profile), parse_overrides(found, overrides), defaults or {})


@dataclass(frozen=True)
class Planned:
    """The Makefile of a run, its number of rules and of rounds, and what the user should know of it, if anything."""

    text: str
    rules: int
    rounds: int
    note: str


def write_plan(
    recipe_name: str,
    dataset: Path,
    output: Path | None,
    run: Path | None,
    profile: str | None,
    rounds: int | None,
    overrides: list[str],
    plugins: list[Path] | None = None,
) -> None:
    """Writes (or prints) the Makefile of ``rounds`` rounds of a recipe on a prepared dataset.

    Raises BadInput with all faults of the recipe, the overrides and the dataset that would make a run fail.
    """
    made = plan_run(recipe_name, dataset, run, profile, rounds, overrides, plugins)
    if made.note:
        say(made.note)
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
) -> Planned:
    """The Makefile of ``rounds`` rounds in ``run``; the artifacts of `shared_steps` are in ``shared``, if given.

    Raises BadInput with all faults of the recipe, the overrides and the dataset that would make a run fail.
    """
    found = read_plan(recipe_name, profile, overrides, dataset_defaults(dataset))
    recipe = found.recipe
    if not recipe.steps:
        raise BadInput(f"Recipe {recipe.name} has no steps to plan; use one that lists [[steps]].")
    by_hand = [f"{step.name} ({step.stage})" for step in recipe.steps if not STAGES[step.stage].plannable]
    if by_hand:
        raise BadInput(f"Recipe {recipe.name}: {', '.join(by_hand)} cannot be planned; run it by hand.")
    check_settings(found)
    with Dataset(dataset) as data:
        faults = dataset_faults(data, [(step, found.settings(step)) for step in recipe.steps])
        if faults:
            raise BadInput(faults)
        given = rounds or rounds_of(recipe, found.profile)
        count = rounds_of_budget(found, data) if given == "budget" else given
        fits = found.profile.dataset in ("", data.attributes["name"])
        note = f"profile {profile} is for dataset {found.profile.dataset}, but this is {data.attributes['name']}"
    common = [["--recipe", recipe_name], *([["--profile", profile]] if profile else [])]
    common += [["--plugin", str(plugin)] for plugin in plugins or []]
    rules = build_rules(found, count, common)
    if shared is not None:
        rules = [with_files(rule, shared_files(recipe)) for rule in rules]
    text = render(found, rules, dataset, run or Path("runs") / recipe.name, count, shared)
    return Planned(text, len(rules), count, "" if fits else f"note: {note}")


def shared_steps(recipe: Recipe) -> list[Step]:
    """The steps that are made once from the dataset alone, or from one another, so that several runs can share them."""
    found: list[Step] = []
    for step in recipe.steps:
        sources = {source.partition("@")[0] for source in step.reads.values()}
        if step.rounds == "once" and sources <= {other.name for other in found}:
            found.append(step)
    return found


def shared_files(recipe: Recipe) -> dict[str, str]:
    """The artifacts of `shared_steps` -> their names in the folder of what runs share."""
    made = [artifact(step, 0) for step in shared_steps(recipe)]
    return {target: target.replace("$(RUN)", "$(SHARED)", 1) for target in made}


def with_files(rule: Rule, moved: Mapping[str, str]) -> Rule:
    """``rule`` with other files, as it writes them, in the place of the keys of ``moved``."""
    needs = [moved.get(need, need) for need in rule.needs]
    parts = [[moved.get(word, word) for word in part] for part in rule.parts]
    return replace(rule, target=moved.get(rule.target, rule.target), needs=needs, parts=parts)


def rounds_of_budget(plan: Plan, data: Dataset) -> int:
    """Number of rounds: one for the seed set, and those that query the rest of the budget of images."""
    from stages.selecting.image_budget import counted_images, whole_budget

    scoring = next(step for step in plan.recipe.steps if step.stage == "score")
    choosing = next(step for step in plan.recipe.steps if step.stage == "select" and step.rounds != "end")
    settings = plan.settings(choosing).settled(choosing.name, unit="image")
    images = settings.image  # type: ignore[attr-defined]
    if images.ratio is None or images.share.seed_share is None:
        raise BadInput(
            f"Recipe {plan.recipe.name} derives its rounds from its budget; set select.ratio and select.seed_share."
        )
    pool = data.ids(plan.settings(scoring).split)  # type: ignore[attr-defined]
    return 1 + whole_budget(counted_images(data, pool, images), images, len(pool)).rounds


def build_rules(plan: Plan, rounds: int, common: list[list[str]]) -> list[Rule]:
    """All rules of the run, ordered so that the inputs of a rule come before it."""
    steps = plan.recipe.steps
    places = [(number, step) for number in range(rounds) for step in steps if takes_place(step, number)]
    places += [(rounds - 1, step) for step in steps if step.rounds == "end"]
    rules = [build_rule(plan, step, number, common) for number, step in places]
    if not any(step.rounds == "end" for step in steps):  # those read the last round, so it must take place
        rules = [
            replace(rule, may_end=number > 0 and step.stage == "select")
            for rule, (number, step) in zip(rules, places, strict=True)
        ]
    sharing: dict[tuple[int, str, tuple[Any, ...]], list[int]] = {}
    for index, (number, step) in enumerate(places):
        shared = plan.settings(step).shared_predictions
        if shared is not None:
            model = rules[index].words[rules[index].words.index("--model") + 1]
            sharing.setdefault((number, model, shared), []).append(index)
    for (number, *_), together in sharing.items():
        if len(together) > 1:
            share_predictions(rules, together, f"$(RUN)/round-{number}/predictions")
    return rules


def share_predictions(rules: list[Rule], together: Sequence[int], folder: str) -> None:
    """Lets those rules run their network once over the images they share; the last one removes what was kept."""
    for index in together:
        *parts, output = rules[index].parts
        removed = folder if index == together[-1] else ""
        rules[index] = replace(rules[index], parts=[*parts, ["--predictions", folder], output], removed=removed)


def takes_place(step: Step, number: int) -> bool:
    """Whether round ``number`` has the step; steps made once are in round 0."""
    if step.rounds in ("all", "end"):
        return step.rounds == "all"
    return (step.rounds == "later") == (number > 0)


def parse_overrides(recipe: Recipe, overrides: Sequence[str]) -> dict[str, Values]:
    """``stage.name=value``, ``step.name=value`` or ``seed=value`` (all stages) -> values per stage or step.

    BadInput lists all that are invalid.
    """
    found: dict[str, Values] = {}
    faults = []
    used = sorted({step.stage for step in recipe.steps})
    stage_of = {step.name: step.stage for step in recipe.steps} | {stage: stage for stage in used}
    for text in overrides:
        key, equals, value = text.partition("=")
        place, dot, name = key.strip().rpartition(".")
        name = name.replace("-", "_")
        places = [place] if dot else used
        known = [place in stage_of and name in fields_of(settings_of(stage_of[place])) for place in places]
        if not equals or not all(known):
            faults.append(
                f"--set {text}: write STAGE.NAME=VALUE with a setting of that stage, STEP.NAME=VALUE for one step of "
                "the recipe, or seed=VALUE."
            )
            continue
        for each in places:
            found.setdefault(each, {})[name] = value.strip()
    if faults:
        raise BadInput(faults)
    return found


def settings_of(stage: str) -> type[StageSettings]:
    settings = STAGES[stage].settings
    assert settings is not None
    return settings


def check_settings(plan: Plan) -> None:
    """BadInput with all settings that a step would reject, and all overrides that apply to no step."""
    faults: list[str] = []
    applied: dict[str, set[str]] = {}
    for step in plan.recipe.steps:
        try:
            applied.setdefault(step.stage, set()).update(plan.settings(step).flat())
        except BadInput as error:
            faults += [fault for fault in error.faults if fault not in faults]
    if not faults:
        for stage, values in plan.overrides.items():
            if stage in applied:
                faults += [
                    f"--set {stage}.{name}: applies to no step of recipe {plan.recipe.name}."
                    for name in values
                    if name not in applied[stage]
                ]
    if faults:
        raise BadInput(faults)


def artifact(step: Step, number: int) -> str:
    folder = "$(RUN)" if step.rounds in ("once", "end") else f"$(RUN)/round-{number}"
    return f"{folder}/{step.name}{STAGES[step.stage].ending}"


def build_rule(plan: Plan, step: Step, number: int, common: list[list[str]]) -> Rule:
    """The rule of ``step`` in round ``number``, with its own settings as options."""
    recipe, stage = plan.recipe, STAGES[step.stage]
    files: dict[str, str] = {}
    for role, source in step.reads.items():
        name, _, before = source.partition("@")
        named = [other for other in recipe.steps if other.name == name]
        source_round = 0 if named[0].rounds == "once" else number - 1 if before else number
        if source_round < 0:
            continue
        target = next((other for other in named if other.rounds == "end" or takes_place(other, source_round)), None)
        if target is None:
            raise BadInput(f"Recipe {recipe.name}, step {step.name}: round {source_round} has no step {name}.")
        files[role] = artifact(target, source_round)
    missing = [each.role for each in stage.inputs if each.required and each.role not in (*files, "dataset")]
    if missing:
        raise BadInput(f"Recipe {recipe.name}, step {step.name}: {step.stage} needs {', '.join(missing)} under reads.")
    parts = [[step.stage, *positional_words(stage, files)]]
    parts += [[f"--{role}", files[role]] for role in stage.optional if role in files]
    parts += [[quoted(word) for word in part] for part in common]
    own = step_values(recipe, plan.profile, step, plan.overrides)
    every = plan.settings(step).flat()
    stated = {name: value for name, value in plan.overrides.get(step.stage, {}).items() if name in every}
    for name, value in ({name: value for name, value in stated.items() if name not in own} | own).items():
        parts.append(option_words(stage, name, value))
    parts.append(["-o", "$@"])
    return Rule(artifact(step, number), ["$(DATASET)", *files.values()], parts)


def positional_words(stage: Stage, files: Mapping[str, str]) -> list[str]:
    return ["$(DATASET)" if role == "dataset" else files[role] for role in stage.positional]


def option_words(stage: Stage, name: str, value: object) -> list[str]:
    """A setting as typed in a recipe line."""
    (_, field), *_ = fields_of(settings_of(stage.name))[name]
    if field.annotation is bool:
        on = value if isinstance(value, bool) else str(value).lower() in ("1", "true", "yes", "on")
        return [option_name(name, bool(on))]
    return [option_name(name), quoted(shown(value))]


def quoted(word: str) -> str:
    """A word of a recipe line, which make and then the shell read as ``word``."""
    if "\n" in word or "\0" in word:
        raise BadInput(f"{word!r} has a line break or NUL, which a Makefile cannot pass on. Remove it.")
    return shlex.quote(word).replace("$", "$$")


def render(plan: Plan, rules: list[Rule], dataset: Path, run: Path, rounds: int, shared: Path | None = None) -> str:
    """The Makefile's text."""
    on = f", profile {plan.profile.name}" if plan.profile.name else ""
    ends = [rule.target for rule in rules if rule.words[0] == "evaluate"] or [rules[-1].target]
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
        program = ["$(LAUNCH)", "$(TRAIN)" if rule.words[0] == "train" else "$(ALSEG)"]
        if rule.target in skipped:
            program = ["$(UNLESS_ENDED)", *program]
        *parts, last = [program + rule.parts[0], *rule.parts[1:]]
        parts.append([*last, "$(OR_END)"] if rule.may_end else last)
        lines += ["", f"{rule.target}: {' '.join(rule.needs)}", *wrapped(parts)]
        lines += [f"\t@rm -rf {rule.removed}"] if rule.removed else []
        lines.append("\t@touch -c $@")  # an up-to-date output is not rewritten, so make would rerun it each time
    return "\n".join(lines) + "\n"


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
