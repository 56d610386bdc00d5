"""Runs of several recipes, profiles and seeds on one dataset as one plan, in which nothing is made twice."""

import itertools
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from stages.artifacts.dataset import Dataset
from stages.artifacts.request import publish_extra
from stages.recipes.checks import require_learnable
from stages.recipes.makefile import make_path, render
from stages.recipes.people import Way
from stages.recipes.plan import (
    Inapplicable,
    Plan,
    Run,
    annotations_of,
    fitted,
    key_of,
    quoted,
    read_plan,
    rounds_of_budget,
    run_rules,
    without_blind,
)
from stages.recipes.profile import rounds_of
from stages.recipes.recipe import Recipe, Step, load_recipe
from stages.recipes.resolve import dataset_defaults
from stages.recipes.rules import Rule, in_folder, made_once, with_labels, with_shared_work
from stages.recipes.sharding import divided
from stages.recipes.snakefile import render_snakefile
from stages.registry import STAGES
from stages.runtime.console import say
from stages.runtime.errors import BadInput


@dataclass(frozen=True)
class Wanted:
    """What to plan. Several ``recipes``, ``profiles`` or ``seeds`` are a run each, in a folder of its own.

    ``full``: a recipe that all are compared with, with its own number of rounds. ``people``: the way in which people
    answer; None: answers are simulated. ``labels``: a ledger that takes the place of the answers of round 0.
    ``shards``: into how many each stage is divided (`stages.recipes.sharding.parse_shards`).
    """

    recipes: Sequence[str]
    dataset: Path
    run: Path | None = None
    profiles: Sequence[str | None] = (None,)
    rounds: int | None = None
    overrides: Sequence[str] = ()
    plugins: Sequence[Path] = ()
    people: Way | None = None
    labels: Path | None = None
    seeds: Sequence[int] | None = None
    full: str | None = None
    format: Literal["make", "snakemake"] = "make"
    shards: Mapping[str, int] = field(default_factory=dict)

    @property
    def several(self) -> bool:
        return self.seeds is not None or self.full is not None or len(self.recipes) * len(self.profiles) > 1


@dataclass(frozen=True)
class Planned:
    """A Makefile or Snakefile, the runs in it, and what the user should know of them."""

    text: str
    runs: list[Run]
    notes: list[str]
    format: Literal["make", "snakemake"] = "make"

    @property
    def counts(self) -> str:
        """How many runs, rules and rounds there are, in words."""
        rules = [rule for run in self.runs for rule in run.rules]
        number = sum(bool(rule.shards) for rule in rules)
        parted = f", {number} of them divided" if number else ""
        if not self.runs[0].name:
            return f"{len(rules)} rules{parted}, {self.runs[0].rounds} rounds"
        shared = sum(bool(rule.same_as) for rule in rules)
        return f"{len(self.runs)} runs of {len(rules)} stages, {shared} of which are made by another run{parted}"


def write_plan(wanted: Wanted, output: Path | None) -> None:
    """Writes (or prints) the Makefile of what is ``wanted``.

    Raises BadInput with all faults of the recipes, the overrides and the dataset that would make a run fail.
    """
    made = plan_runs(wanted)
    if output is None:
        print(made.text, end="", flush=True)
        return
    write_made(made, output)


def write_made(made: Planned, output: Path) -> None:
    """Writes a Makefile and says what is in it."""
    for note in made.notes:
        say(f"note: {note}")
    publish_extra(output, os.fsencode(made.text))
    program = "make -f" if made.format == "make" else "snakemake --cores 1 -s"
    say(f"wrote {output}: {made.counts}; run it with `{program} {shlex.quote(str(output))}`")


def plan_runs(wanted: Wanted) -> Planned:
    """The Makefile of what is ``wanted``; BadInput with all faults of recipes, overrides and dataset."""
    if wanted.people is not None and wanted.format == "snakemake":
        raise BadInput("Snakemake cannot wait for people. Write a Makefile: leave out --format snakemake.")
    if wanted.several and wanted.people is not None:
        raise BadInput("People answer one run at a time. Pass one recipe and no --seeds with --people.")
    notes: dict[str, None] = {}
    if not wanted.several:
        run = planned_run(wanted, wanted.recipes[0], wanted.profiles[0], None, "", notes)
        folder = wanted.run or Path("runs") / run.plan.recipe.name
        whole = divided(joined([run]), wanted.shards, notes)
        return Planned(text_of(wanted, whole, folder), whole, list(notes), wanted.format)
    runs: dict[str, Run] = {}
    faults: list[str] = []
    left: dict[str, list[str]] = {key_of(text): [] for text in wanted.overrides}
    bound = "" if wanted.full is None else folder_name(wanted, wanted.full, wanted.profiles[0], first(wanted.seeds))
    planned = places(wanted)
    for recipe, profile, seed in planned:
        name = folder_name(wanted, recipe, profile, seed)
        if name in runs:
            faults.append(f"Two runs would be called {name}. Give each recipe and profile a name of its own.")
        try:
            own = replace(wanted, rounds=None) if name == bound else wanted
            runs[name] = run_with_own(own, recipe, profile, seed, name, notes, left)
        except BadInput as error:
            faults += [fault for fault in error.faults if fault not in faults]
    faults += [reasons[0] for reasons in left.values() if len(reasons) == len(planned)]
    if faults:
        raise BadInput(faults)
    whole = divided(joined(list(runs.values())), wanted.shards, notes)
    folder = wanted.run or Path("runs")
    title = f"{len(whole)} runs: {', '.join(dict.fromkeys(run.plan.recipe.title for run in whole))}"
    text = text_of(wanted, whole, folder, comparison(whole, bound), title)
    return Planned(text, whole, list(notes), wanted.format)


def text_of(wanted: Wanted, runs: Sequence[Run], folder: Path, last: Sequence[Rule] = (), title: str = "") -> str:
    """The plan of ``runs`` in the wanted format."""
    written = render if wanted.format == "make" else render_snakefile
    return written(runs, wanted.dataset, folder, last, title)


def places(wanted: Wanted) -> list[tuple[str, str | None, int | None]]:
    """Recipe, profile and seed of each run; that of full supervision comes last."""
    seeds: Sequence[int | None] = wanted.seeds or [None]
    found: list[tuple[str, str | None, int | None]] = list(itertools.product(wanted.recipes, wanted.profiles, seeds))
    if wanted.full is not None and (bound := (wanted.full, wanted.profiles[0], seeds[0])) not in found:
        found.append(bound)
    return found


def first(seeds: Sequence[int] | None) -> int | None:
    return None if seeds is None else seeds[0]


def folder_name(wanted: Wanted, recipe: str, profile: str | None, seed: int | None) -> str:
    """RECIPE, with the profile if there are several, and the seed if it is given."""
    named = [recipe, *([profile] if len(wanted.profiles) > 1 and profile is not None else [])]
    parts = [Path(name).stem if name.endswith(".toml") else name for name in named]
    return "-".join([*parts, *([] if seed is None else [str(seed)])])


def run_with_own(
    wanted: Wanted,
    recipe: str,
    profile: str | None,
    seed: int | None,
    name: str,
    notes: dict[str, None],
    left: dict[str, list[str]],
) -> Run:
    """`planned_run` without the overrides that this recipe does not take; why is added to ``left`` by their keys."""
    while True:
        try:
            return planned_run(wanted, recipe, profile, seed, name, notes)
        except Inapplicable as error:
            kept = [text for text in wanted.overrides if key_of(text) not in error.reasons]
            if len(kept) == len(wanted.overrides):
                raise
            for key in error.reasons.keys() & left.keys():
                left[key].append(error.reasons[key])
            wanted = replace(wanted, overrides=kept)


def planned_run(
    wanted: Wanted, recipe: str, profile: str | None, seed: int | None, name: str, notes: dict[str, None]
) -> Run:
    """One run; what the user should know of it is added to ``notes``."""
    defaults = dataset_defaults(wanted.dataset)
    overrides = list(wanted.overrides)
    if seed:
        overrides += seeded(load_recipe(recipe), seed)
    plan = read_plan(recipe, profile, overrides, defaults, wanted.people)
    by_hand = [f"{step.name} ({step.stage})" for step in plan.recipe.steps if not STAGES[step.stage].plannable]
    if by_hand and wanted.people is None:
        raise BadInput(f"Recipe {plan.recipe.name}: {', '.join(by_hand)} needs people. Pass --people page or files.")
    with Dataset(wanted.dataset) as data:
        if wanted.people is not None:
            plan, told = without_blind(plan, data)
            notes |= dict.fromkeys(told)
        plan = fitted(plan, data)
        given = wanted.rounds or rounds_of(plan.recipe, plan.profile)
        count = rounds_of_budget(plan, data) if given == "budget" else given
        if not plan.profile.fits(called := data.attributes["name"]):
            notes[f"profile {profile} is for dataset {plan.profile.dataset}, but this is {called}"] = None
    return numbered(plan, count, name, common_words(recipe, profile, wanted.plugins), wanted.labels)


def numbered(plan: Plan, rounds: int, name: str, common: list[list[str]], labels: Path | None = None) -> Run:
    """``rounds`` rounds of ``plan``; ``labels`` is a ledger that takes the place of the answers of round 0."""
    rules = run_rules(plan, rounds, common)
    if labels is not None:
        require_learnable(labels, plan.recipe.steps, plan.settings)
        rules = with_labels(rules, annotations_of(plan.recipe), make_path(labels))
    return Run(name, plan, rounds, rules)


def common_words(recipe: str, profile: str | None, plugins: Sequence[Path] = ()) -> list[list[str]]:
    """The options of all stages of a run."""
    named = [["--recipe", recipe], *([["--profile", profile]] if profile else [])]
    return [*named, *(["--plugin", str(plugin)] for plugin in plugins)]


def seeded(recipe: Recipe, seed: int) -> list[str]:
    """Overrides that give ``seed`` to all steps but those that are made from the dataset alone, such as superpixels."""
    alike = [step.name for step in made_from_dataset(recipe)]
    names = dict.fromkeys(step.name for step in recipe.steps if step.name not in alike)
    return [f"{name}.seed={seed}" for name in names]


def made_from_dataset(recipe: Recipe) -> list[Step]:
    """The steps that are made once, from the dataset alone or from one another."""
    found: list[Step] = []
    for step in recipe.steps:
        sources = {source.partition("@")[0] for source in step.reads.values()}
        if step.rounds == "once" and sources <= {other.name for other in found}:
            found.append(step)
    return found


def joined(runs: Sequence[Run]) -> list[Run]:
    """``runs`` with their rules as one Makefile has them: what several make alike is made by the first of them."""
    if not runs[0].name:
        return [replace(run, rules=with_shared_work(run.rules)) for run in runs]
    rules = [in_folder(rule, run.name) for run in runs for rule in run.rules]
    whole = iter(with_shared_work(made_once(rules)))
    return [replace(run, rules=list(itertools.islice(whole, len(run.rules)))) for run in runs]


def comparison(runs: Sequence[Run], full: str) -> list[Rule]:
    """What compares the ``runs`` at the end; ``full``: the name of one that all are compared with."""
    compared = [run.name for run in runs if run.name != full]
    steps = [
        dict.fromkeys(rule.target.rpartition("/")[2] for rule in run.rules if rule.stage == "evaluate") for run in runs
    ]
    shared = [name.removesuffix(".h5") for name in steps[0] if all(name in others for others in steps)]
    if not shared or not compared:
        return []
    which = "evaluation" if "evaluation" in shared else shared[0]
    options = [["--full", f"$(RUN)/{full}"]] if full else []
    options += [["--evaluation", quoted(which)]] if which != "evaluation" else []
    folders = [[f"$(RUN)/{name}"] for name in compared]
    needs = [target for run in runs for target in run.ends]
    return [
        Rule(f"$(RUN)/{file}", needs, [[command], *folders, *options, ["-o", "$@"]])
        for file, command in (("curve.png", "compare"), ("report.html", "report"))
    ]
