"""A recipe as a Makefile: one rule per stage and round, real files as targets."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alseg_cli.options import option_name, shown
from stages.artifacts.request import publish_extra
from stages.recipes.recipe import Recipe, Step, load_recipe
from stages.registry import SETTINGS
from stages.runtime.console import say
from stages.runtime.errors import BadInput
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings

# Stage -> (roles given by position, roles given as options, ending of the output)
SHAPES: dict[str, tuple[tuple[str, ...], tuple[str, ...], str]] = {
    "extract-superpixels": ((), ("superpixels", "model"), ".h5"),
    "cluster-regions": (("superpixels",), ("features",), ".h5"),
    "train": (("labels",), ("model",), ".safetensors"),
    "score": ((), ("model", "superpixels", "clusters", "annotations"), ".h5"),
    "select": (("scores",), ("annotations", "superpixels"), ".h5"),
    "annotate-simulate": (("queries",), ("annotations", "superpixels"), ".h5"),
    "pseudo-label": (("annotations",), ("model", "superpixels"), ".h5"),
    "evaluate": (("model",), (), ".h5"),
}
WIDTH = 118


@dataclass(frozen=True)
class Rule:
    """One target: its file, what it depends on, and the command's words."""

    target: str
    needs: list[str]
    words: list[str]


def write_plan(
    recipe_name: str,
    dataset: Path,
    output: Path | None,
    run: Path | None,
    profile: str | None,
    rounds: int | None,
    overrides: list[str],
) -> None:
    """Writes (or prints) the Makefile of ``rounds`` rounds of a recipe on a prepared dataset."""
    recipe = load_recipe(recipe_name)
    if not recipe.steps:
        raise BadInput(f"Recipe {recipe.name} has no steps to plan; give one that lists [[steps]].")
    by_hand = [f"{step.name} ({step.stage})" for step in recipe.steps if step.stage not in SHAPES]
    if by_hand:
        raise BadInput(f"Recipe {recipe.name}: {', '.join(by_hand)} cannot be planned; run it by hand.")
    extra = parse_overrides(recipe, overrides)
    check_settings(recipe, profile, extra)
    given = rounds or recipe.profile(profile).rounds or recipe.rounds
    count = rounds_of_budget(recipe, dataset, profile, extra) if given == "budget" else given
    common = ["--recipe", recipe_name, *(["--profile", profile] if profile else [])]
    rules = build_rules(recipe, count, common, profile, extra)
    text = render(recipe, rules, dataset, run or Path("runs") / recipe.name, profile, count)
    if output is None:
        print(text, end="")
        return
    publish_extra(output, text.encode())
    say(f"wrote {output}: {len(rules)} rules, {count} rounds; run it with `make -f {output}`")


def rounds_of_budget(recipe: Recipe, dataset: Path, profile: str | None, extra: dict[str, dict[str, str]]) -> int:
    """The seed set's round, and those that ask for the rest of the budget of images."""
    from stages.artifacts.dataset import Dataset
    from stages.selecting.images import whole_budget

    split = ScoreSettings.load(recipe.stage_values("score", profile) | extra.get("score", {})).split
    settings = SelectSettings.load(recipe.stage_values("select", profile) | extra.get("select", {}))
    if settings.ratio is None or settings.seed_share is None:
        raise BadInput(f"Recipe {recipe.name} has as many rounds as its budget takes; set select.ratio and seed_share.")
    with Dataset(dataset) as data:
        images = len(data.ids(split))
    return 1 + whole_budget(images, settings).rounds


def build_rules(
    recipe: Recipe, rounds: int, common: list[str], profile: str | None, extra: dict[str, dict[str, str]]
) -> list[Rule]:
    """Every rule of the run, in an order in which each one's inputs come before it."""
    places = [(number, step) for number in range(rounds) for step in recipe.steps if takes_place(step, number)]
    places += [(rounds - 1, step) for step in recipe.steps if step.rounds == "end"]
    return [
        build_rule(recipe, step, number, common, recipe.step_values(step, profile, extra)) for number, step in places
    ]


def takes_place(step: Step, number: int) -> bool:
    """Whether round ``number`` has the step; what is made once is made before round 0."""
    if step.rounds in ("all", "end"):
        return step.rounds == "all"
    return (step.rounds == "later") == (number > 0)


def parse_overrides(recipe: Recipe, overrides: list[str]) -> dict[str, dict[str, str]]:
    """``stage.name=value``, ``step.name=value`` or ``seed=value`` (every stage) -> values per stage or step.

    BadInput lists all that are wrong.
    """
    found: dict[str, dict[str, str]] = {}
    faults = []
    used = sorted({step.stage for step in recipe.steps})
    stage_of = {step.name: step.stage for step in recipe.steps} | {stage: stage for stage in SETTINGS}
    for text in overrides:
        key, equals, value = text.partition("=")
        stage, dot, name = key.strip().rpartition(".")
        name = name.replace("-", "_")
        stages = [stage] if dot else used
        if not equals or any(
            stage not in stage_of or name not in SETTINGS[stage_of[stage]].model_fields for stage in stages
        ):
            faults.append(
                f"--set {text}: write STAGE.NAME=VALUE with a setting of that stage, STEP.NAME=VALUE for one step of "
                "the recipe, or seed=VALUE."
            )
            continue
        for stage in stages:
            found.setdefault(stage, {})[name] = value.strip()
    if faults:
        raise BadInput(faults)
    return found


def check_settings(recipe: Recipe, profile: str | None, extra: dict[str, dict[str, str]]) -> None:
    """BadInput with every setting that the stages of the run would refuse."""
    faults: list[str] = []
    for step in recipe.steps:
        values: dict[str, Any] = recipe.stage_values(step.stage, profile) | recipe.step_values(step, profile, extra)
        try:
            SETTINGS[step.stage].load(values, step.stage)
        except BadInput as error:
            faults += [fault for fault in error.faults if fault not in faults]
    if faults:
        raise BadInput(faults)


def artifact(step: Step, number: int) -> str:
    folder = "$(RUN)" if step.rounds in ("once", "end") else f"$(RUN)/round-{number}"
    return f"{folder}/{step.name}{SHAPES[step.stage][2]}"


def build_rule(recipe: Recipe, step: Step, number: int, common: list[str], own: dict[str, Any]) -> Rule:
    """The rule of ``step`` in round ``number``, with its ``own`` settings as options."""
    positional, optional, _ = SHAPES[step.stage]
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
    missing = [role for role in positional if role not in files]
    if missing:
        raise BadInput(f"Recipe {recipe.name}, step {step.name}: {step.stage} needs {', '.join(missing)} under reads.")
    words = [step.stage, "$(DATASET)", *(files[role] for role in positional)]
    words += [word for role in optional if role in files for word in (f"--{role}", files[role])]
    words += [shlex.quote(word) for word in common]
    fields = SETTINGS[step.stage].model_fields
    for name, value in own.items():
        if fields[name].annotation is bool:
            on = value if isinstance(value, bool) else str(value).lower() in ("1", "true", "yes", "on")
            words.append(option_name(name) if on else f"--no-{name.replace('_', '-')}")
        else:
            words += [option_name(name), shlex.quote(shown(value))]
    words += ["-o", "$@"]
    return Rule(artifact(step, number), ["$(DATASET)", *files.values()], words)


def render(recipe: Recipe, rules: list[Rule], dataset: Path, run: Path, profile: str | None, rounds: int) -> str:
    """The Makefile's text."""
    on = f", profile {profile}" if profile else ""
    ends = [rule.target for rule in rules if rule.words[0] == "evaluate"] or [rules[-1].target]
    lines = [
        f"# {recipe.title}: {rounds} rounds{on}. Written by `alseg plan`; plain make runs it:",
        "#   make -f THIS            run, or go on after a failure or a kill",
        "#   make -f THIS -n         show what is left to do",
        "#   make -f THIS -B         ask every stage again; each rebuilds only what changed",
        '#   make -f THIS LAUNCH="srun --gpus=1" TRAIN="torchrun --nproc-per-node 4 -m alseg_cli"',
        "",
        f"DATASET ?= {make_path(dataset)}",
        f"RUN ?= {make_path(run)}",
        "ALSEG ?= alseg",
        "LAUNCH ?=",
        "TRAIN ?= $(ALSEG)",
        "",
        ".DELETE_ON_ERROR:",
        ".PHONY: all",
        "all: " + " \\\n     ".join(ends),
    ]
    for rule in rules:
        program = "$(TRAIN)" if rule.words[0] == "train" else "$(ALSEG)"
        lines += ["", f"{rule.target}: {' '.join(rule.needs)}", *wrapped(["$(LAUNCH)", program, *rule.words])]
        lines.append("\t@touch -c $@")  # an output that is up to date stays as it is, and make would ask again for ever
    return "\n".join(lines) + "\n"


def wrapped(words: list[str]) -> list[str]:
    """A recipe line, broken with backslashes where it gets too wide."""
    lines, line = [], "\t"
    for word in words:
        if len(line) + len(word) > WIDTH and line.strip():
            lines.append(line.rstrip() + " \\")
            line = "\t  "
        line += word + " "
    return [*lines, line.rstrip()]


def make_path(path: Path) -> str:
    text = os.fspath(path)
    if any(character.isspace() or character in "#$:%" for character in text):
        raise BadInput(f"{text!r} has a character that make cannot take in a file name; choose another name.")
    return text
