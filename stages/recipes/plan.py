"""A recipe under a profile, with settings and a dataset: one rule per stage and round."""

import itertools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from stages.artifacts.dataset import Dataset
from stages.artifacts.rounds import round_folder
from stages.recipes.checks import dataset_faults
from stages.recipes.people import ANSWERS, FILES, Way, answering_step, on_answers, with_people
from stages.recipes.profile import Profile, load_profile
from stages.recipes.recipe import Recipe, Step, Values, load_recipe
from stages.recipes.resolve import step_settings, step_values
from stages.recipes.rules import Rule, with_exports, with_shared_work
from stages.registry import STAGES, Stage
from stages.runtime.errors import BadInput
from stages.runtime.spelling import close_names
from stages.settings.base import StageSettings, fields_of
from stages.settings.text import option_name, shown


@dataclass(frozen=True)
class Plan:
    """A recipe under a profile with the user's overrides per stage or step, for a dataset with its own defaults."""

    recipe: Recipe
    profile: Profile
    overrides: Mapping[str, Values]
    defaults: Mapping[str, Values]
    known: dict[tuple[str, ...], StageSettings] = field(init=False, default_factory=dict, compare=False, repr=False)

    def in_round(self, number: int | None) -> dict[str, Values]:
        """The overrides per stage or step in the round ``number``; None: those of all rounds alone."""
        found = {place: values for place, values in self.overrides.items() if "@" not in place}
        for place, values in self.overrides.items():
            name, _, own = place.partition("@")
            if own and int(own) == number:
                found[name] = found.get(name, {}) | values
        return found

    @property
    def numbers(self) -> set[int]:
        """The rounds that have overrides of their own."""
        return {int(own) for place in self.overrides if (own := place.partition("@")[2])}

    def settings(self, step: Step, number: int | None = None) -> StageSettings:
        """The settings of ``step``, in a round if they are its own there, computed once."""
        place = step.name, step.rounds, *([str(number)] if number in self.numbers else [])
        if place not in self.known:
            found = step_settings(self.recipe, self.profile, step, self.in_round(number), self.defaults)
            if step.stage == "evaluate":
                found = found.settled(step.name, truth="answers" if "annotations" in step.reads else "masks")
            self.known[place] = found
        return self.known[place]


@dataclass(frozen=True)
class Run:
    """A planned run: its folder in that of all runs (empty: that folder itself), its number of rounds, its rules."""

    name: str
    plan: Plan
    rounds: int
    rules: list[Rule]

    @property
    def title(self) -> str:
        """What it does, in a line."""
        profile = self.plan.profile.name
        return f"{self.plan.recipe.title}: {self.rounds} rounds" + (f", profile {profile}" if profile else "")

    @property
    def ends(self) -> list[str]:
        """The targets with which it is done."""
        evaluations = [rule for rule in self.rules if rule.stage == "evaluate"]
        ends = [rule.target for rule in self.rules if rule.same_as or rule.stage == "evaluate"]
        if all(rule.on_answers for rule in evaluations):  # the last model is evaluated by the next round, if any
            ends.append(self.rules[-1].target)
        return ends


def read_plan(
    recipe: str,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    defaults: Mapping[str, Values] | None = None,
    people: Way | None = None,
) -> Plan:
    """A recipe and a profile (names or TOML files) with ``overrides`` as typed; BadInput if any is invalid.

    ``people``: the way in which they answer in place of the simulation.
    """
    found = load_recipe(recipe)
    if people is not None:
        found = with_people(found, people)
    return Plan(found, load_profile(profile), parse_overrides(found, overrides), defaults or {})


def annotations_of(recipe: Recipe) -> str:
    """The file with the answers of round 0 in a plan of ``recipe``; BadInput if it asks nothing."""
    step = answering_step(recipe)
    if step is None:
        raise BadInput(f"Recipe {recipe.name} asks nothing, so no labels can replace its answers. Use another recipe.")
    return artifact(step, 0)


def fitted(plan: Plan, data: Dataset) -> Plan:
    """``plan`` itself; BadInput with all that its settings and ``data`` lack."""
    if not plan.recipe.steps:
        raise BadInput(f"Recipe {plan.recipe.name} has no steps; use one that lists [[steps]].")
    check_settings(plan)
    if faults := dataset_faults(data, [(step, plan.settings(step)) for step in plan.recipe.steps]):
        raise BadInput(faults)
    return plan


def without_blind(plan: Plan, data: Dataset) -> tuple[Plan, list[str]]:
    """``plan`` without evaluations on a split without masks, and a sentence that says so.

    If the answers name classes of pixels or regions, or are masks, each model is evaluated on those of the next round.
    """
    evaluations = [step for step in plan.recipe.steps if step.stage == "evaluate"]
    blind = [step for step in evaluations if not data.has_masks(plan.settings(step).flat()["split"])]
    if not blind:
        return plan, []
    split = plan.settings(blind[0]).flat()["split"]
    asked = [plan.settings(step).flat()["image_answer"] for step in plan.recipe.steps if step.stage == "select"]
    if answering_step(plan.recipe) is not None and {*asked} == {"mask"} and any(step.rounds == "all" for step in blind):
        told = f"split {split!r} has no masks: each model is evaluated on the answers of the next round"
        return replace(plan, recipe=on_answers(plan.recipe, blind)), [told]
    kept = [step for step in plan.recipe.steps if step not in blind]
    fewer = replace(plan, recipe=plan.recipe.model_copy(update={"steps": kept}))
    return fewer, [f"nothing is evaluated: split {split!r} has no masks"]


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
    return with_shared_work(run_rules(plan, rounds, common))


def run_rules(plan: Plan, rounds: int, common: list[list[str]]) -> list[Rule]:
    """As `build_rules`, but each rule runs its network for itself."""
    if beyond := [number for number in plan.numbers if number >= rounds]:
        raise BadInput(f"--set ...@{min(beyond)}: the plan has the rounds 0 to {rounds - 1}. Name one of them.")
    steps = plan.recipe.steps
    places = [(number, step) for number in range(rounds) for step in steps if takes_place(step, number)]
    places += [(rounds - 1, step) for step in steps if step.rounds == "end"]
    rules = [build_rule(plan, step, number, common) for number, step in places]
    if not any(step.rounds == "end" for step in steps):  # those read the last round, so it must take place
        rules = [
            replace(rule, may_end=number > 0 and step.stage == "select")
            for rule, (number, step) in zip(rules, places, strict=True)
        ]
    return with_exports(rules)


def takes_place(step: Step, number: int) -> bool:
    """Whether round ``number`` has the step; steps made once are in round 0."""
    if step.rounds in ("all", "end"):
        return step.rounds == "all"
    return (step.rounds == "later") == (number > 0)


class Inapplicable(BadInput):
    """Overrides that name no setting of a recipe, or one that applies to none of its steps; ``reasons`` by `key_of`."""

    def __init__(self, reasons: Mapping[str, str]):
        super().__init__(list(reasons.values()))
        self.reasons = reasons


def key_of(override: str) -> str:
    """The setting that ``override`` names: STAGE.NAME, STEP.NAME or NAME, any of the first two with @ROUND."""
    place, dot, name = override.partition("=")[0].strip().rpartition(".")
    return place + dot + name.replace("-", "_")


def parse_overrides(recipe: Recipe, overrides: Sequence[str]) -> dict[str, Values]:
    """``stage.name=value``, ``step.name=value`` or ``seed=value`` (all stages) -> values per stage or step.

    ``stage@round.name`` and ``step@round.name`` are for one round and stay as they are. Inapplicable lists all that
    are invalid.
    """
    found: dict[str, Values] = {}
    faults: dict[str, str] = {}
    used = sorted({step.stage for step in recipe.steps})
    stage_of = {step.name: step.stage for step in recipe.steps} | {stage: stage for stage in used}
    for text in overrides:
        _, equals, value = text.partition("=")
        place, dot, name = key_of(text).rpartition(".")
        places = [place] if dot else used
        bare, at, number = place.partition("@")
        if at and number.isdecimal():
            place, places = bare, [bare]
        known = [each in stage_of and name in fields_of(settings_of(stage_of[each])) for each in places]
        if not equals or not all(known):
            faults[key_of(text)] = f"--set {text}: {override_remedy(recipe, place, name if equals else '', stage_of)}"
            continue
        for each in places:
            found.setdefault(f"{each}@{int(number)}" if at else each, {})[name] = value.strip()
    if faults:
        raise Inapplicable(faults)
    return found


def override_remedy(recipe: Recipe, place: str, name: str, stage_of: Mapping[str, str]) -> str:
    """What to type instead of an override that names no setting."""
    if place in stage_of:
        meant = [f"{place}.{each}" for each in close_names(name, fields_of(settings_of(stage_of[place])))]
    else:
        meant = [f"{each}.{name}" for each in close_names(place, stage_of)]
    if meant:
        return f"Did you mean {' or '.join(meant)}?"
    if name and place and place not in stage_of:
        return f"recipe {recipe.name} has no stage or step {place}; it has {', '.join(sorted(stage_of))}."
    return (
        "write STAGE.NAME=VALUE with a setting of that stage, STEP.NAME=VALUE for one step, STAGE@ROUND.NAME=VALUE for "
        "one round, or seed=VALUE."
    )


def settings_of(stage: str) -> type[StageSettings]:
    settings = STAGES[stage].settings
    assert settings is not None
    return settings


def check_settings(plan: Plan) -> None:
    """BadInput with all settings that a step would reject; if there are none, Inapplicable with unused overrides."""
    faults: list[str] = []
    applied: dict[str, set[str]] = {}
    numbers: list[int | None] = [None, *sorted(plan.numbers)]
    for step, of_round in itertools.product(plan.recipe.steps, numbers):
        try:
            applied.setdefault(step.stage, set()).update(plan.settings(step, of_round).flat())
        except BadInput as error:
            faults += [fault for fault in error.faults if fault not in faults]
    if faults:
        raise BadInput(faults)
    unused: dict[str, str] = {}
    for place, values in plan.overrides.items():
        stage = place.partition("@")[0]
        if stage in applied:
            keys = [f"{place}.{name}" for name in values if name not in applied[stage]]
            unused |= {key: f"--set {key}: applies to no step of recipe {plan.recipe.name}." for key in keys}
    if unused:
        raise Inapplicable(unused)


def artifact(step: Step, number: int) -> str:
    folder = "$(RUN)" if step.rounds in ("once", "end") else f"$(RUN)/{round_folder(number)}"
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
    awaits = ""
    if step.stage == FILES:
        awaits = files["answers"] = artifact(step, number).replace(f"{step.name}{stage.ending}", brought(plan, step))
    missing = [each.role for each in stage.inputs if each.required and each.role not in (*files, "dataset")]
    if missing:
        raise BadInput(f"Recipe {recipe.name}, step {step.name}: {step.stage} needs {', '.join(missing)} under reads.")
    parts = [[step.stage, *positional_words(stage, files)]]
    parts += [[f"--{role}", files[role]] for role in stage.optional if role in files]
    parts += [[quoted(word) for word in part] for part in common]
    overrides = plan.in_round(number)
    own = step_values(recipe, plan.profile, step, overrides)
    every = plan.settings(step, number).flat()
    stated = {name: value for name, value in overrides.get(step.stage, {}).items() if name in every}
    for name, value in ({name: value for name, value in stated.items() if name not in own} | own).items():
        parts.append(option_words(stage, name, value))
    parts.append(["-o", "$@"])
    return Rule(
        artifact(step, number),
        ["$(DATASET)", *files.values()],
        parts,
        awaits=awaits,
        round=number,
        reads={"dataset": "$(DATASET)", **files},
        settings=plan.settings(step, number),
    )


def brought(plan: Plan, step: Step) -> str:
    """The name of what people bring: a table, or a folder of PNG for answers that have to be painted."""
    choosing = next(each for each in plan.recipe.steps if each.name == step.reads["queries"].partition("@")[0])
    scoring = next(each for each in plan.recipe.steps if each.name == choosing.reads["scores"].partition("@")[0])
    unit, values = plan.settings(scoring).flat()["unit"], plan.settings(choosing).flat()
    painted = (
        values.get("image_answer") == "mask" if unit == "image" else unit == "region" and values["answer"] == "precise"
    )
    return ANSWERS if painted else f"{ANSWERS}.csv"


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
