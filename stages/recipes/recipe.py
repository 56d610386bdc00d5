"""Recipes: a method as settings per stage and the steps that a plan writes out."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from stages.datasets.fields import Table
from stages.registry import STAGES
from stages.runtime.errors import BadInput
from stages.runtime.parts import load_plugin
from stages.runtime.resources import data_folder, find_toml
from stages.settings.base import fields_of, settings_faults, unknown_setting
from stages.settings.toml_files import read_toml

Values = dict[str, Any]
# "budget": as many rounds as needed to query the budget of images in the settings of select
Rounds = Annotated[int, Field(ge=1)] | Literal["budget"]
Occasion = Literal["once", "all", "first", "later", "end"]


class Step(Table):
    """One artifact of a round.

    ``reads`` maps the stage's inputs to the names of steps: of this round (``scores``), of the previous round
    (``model@before``), or of one that is made once. In round 0, inputs from the previous round are left out. Steps at
    the end are made once, after the last round, and read its steps. ``settings`` are for this step only.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    stage: str
    rounds: Occasion = "all"
    reads: dict[str, str] = Field(default_factory=dict)
    settings: Values = Field(default_factory=dict)


class OwnProfile(Table):
    """What a recipe changes under one profile: how to prepare the dataset, rounds, settings per stage and per step."""

    prepare: str = ""
    rounds: Rounds | None = None
    settings: dict[str, Values] = Field(default_factory=dict)
    steps: dict[str, Values] = Field(default_factory=dict)


class WrittenStep(BaseModel, extra="allow"):
    reads: dict[str, str] = Field(default_factory=dict)


class Written(BaseModel, extra="allow"):
    """The structure that a recipe file needs to be merged with its base; `Recipe` checks the rest."""

    base: str | list[str] | None = None
    without: list[str] = Field(default_factory=list)
    plugins: list[str] = Field(default_factory=list)
    steps: list[WrittenStep] = Field(default_factory=list)


class Recipe(Table):
    """A method or baseline (design section 8).

    ``random`` is the recipe that chooses at random and is otherwise alike; a recipe that names itself is such a one.
    """

    name: str = ""
    title: str
    source: str
    random: str = ""
    rounds: Rounds = 1
    plugins: list[str] = Field(default_factory=list)
    settings: dict[str, Values] = Field(default_factory=dict)
    profiles: dict[str, OwnProfile] = Field(default_factory=dict)
    steps: list[Step] = Field(default_factory=list)

    def profile(self, name: str | None) -> OwnProfile:
        """What the recipe changes under the profile ``name``."""
        return self.profiles.get(name or "", OwnProfile())


def recipe_faults(recipe: Recipe) -> list[str]:
    """One sentence for each unknown stage, setting, step or input in a recipe."""
    faults = section_faults(recipe.settings, "settings")
    stages = {step.name: step.stage for step in recipe.steps if step.stage in STAGES}
    for profile, own in recipe.profiles.items():
        faults += section_faults(own.settings, f"profiles.{profile}.settings")
        for name, values in own.steps.items() if recipe.steps else ():
            where = f"profiles.{profile}.steps"
            if name in stages:
                faults += section_faults({stages[name]: values}, where, name)
            else:
                faults.append(f"{where}.{name}: the recipe has no such step; remove it.")
    return faults + step_faults(recipe.steps)


def section_faults(section: dict[str, Values], where: str, name: str = "") -> list[str]:
    """Unknown stages and settings in a table of settings per stage."""
    faults = []
    for stage, values in section.items():
        known = None if stage not in STAGES else STAGES[stage].settings
        if known is None:
            faults.append(f"{where}.{stage}: there is no such stage; choose one of {', '.join(STAGES)}.")
            continue
        names = fields_of(known) if values else {}
        faults += [f"{where}.{name or stage}: {unknown_setting(key, names)}" for key in values if key not in names]
    return faults


def step_faults(steps: list[Step]) -> list[str]:
    """Unknown stages and settings, names used twice, inputs that no step writes."""
    faults, names = [], [step.name for step in steps]
    for number, step in enumerate(steps):
        where = f"steps.{step.name}"
        if step.stage not in STAGES:
            faults.append(f"{where}: there is no stage {step.stage!r}; choose one of {', '.join(STAGES)}.")
            continue
        if any(other.name == step.name and overlap(other.rounds, step.rounds) for other in steps[:number]):
            faults.append(f"{where}: the name is used twice in the same rounds; rename one.")
        faults += section_faults({step.stage: step.settings}, where, "settings")
        for role, source in step.reads.items():
            target, _, when = source.partition("@")
            if STAGES[step.stage].input(role) is None or role == "dataset":
                roles = ", ".join(each.role for each in STAGES[step.stage].inputs if each.role != "dataset")
                faults.append(f"{where}.reads.{role}: {step.stage} has no such input; it reads {roles}.")
            if target not in names or when not in ("", "before"):
                faults.append(f"{where}.reads.{role}: {source!r} is no step of this recipe; name one.")
    return faults


def overlap(one: Occasion, other: Occasion) -> bool:
    """Whether two steps can take place in the same round."""
    return one == other or {one, other} in ({"all", "first"}, {"all", "later"})


def load_recipe(name_or_path: str, above: tuple[Path, ...] = ()) -> Recipe:
    """A shipped recipe by name or any other by path; loads its plug-ins; BadInput lists all faults.

    ``above`` are the recipes that it is a base of.
    """
    path = find_toml("recipes", name_or_path)
    if path in above:
        raise BadInput(f"{path} is its own base; name another recipe as its base.")
    values = read_toml(path)
    try:
        Written.model_validate(values)
    except ValidationError as error:
        raise BadInput(settings_faults(Written, error, str(path))) from None
    values["plugins"] = [str(path.parent / plugin) for plugin in values.get("plugins", [])]
    for plugin in values["plugins"]:
        load_plugin(plugin)
    given, without = values.pop("base", None) or [], values.pop("without", [])
    names = [given] if isinstance(given, str) else given
    bases = [load_recipe(str(path.parent / name) if name.endswith(".toml") else name, (*above, path)) for name in names]
    if bases:
        values = inherit(bases[0], with_settings_of(bases[1:], values, path), without, path)
    elif without:
        raise BadInput(f"{path}: without = {without!r} needs a base; remove it.")
    try:
        recipe = Recipe.model_validate({"name": path.stem} | values)
    except ValidationError as error:
        raise BadInput(settings_faults(Recipe, error, str(path))) from None
    if faults := recipe_faults(recipe):
        raise BadInput([f"{path}: {fault}" for fault in faults])
    return recipe


def inherit(base: Recipe, values: Values, without: list[str], path: Path) -> Values:
    """``values`` on top of ``base``: tables are merged, steps by name and rounds; other values are replaced."""
    below = base.model_dump(mode="json", exclude={"name"}, exclude_unset=True)
    steps = below.pop("steps", [])
    missing = [name for name in without if name not in [step["name"] for step in steps]]
    if missing:
        raise BadInput(f"{path}: without names {', '.join(missing)}, which {base.name} does not have; remove it.")
    for table in below.get("profiles", {}).values():
        table["steps"] = {name: value for name, value in table.get("steps", {}).items() if name not in without}
    merged: Values = merged_tables(below, {name: value for name, value in values.items() if name != "steps"})
    merged["plugins"] = [*below.get("plugins", []), *values.get("plugins", [])]
    merged["steps"] = merged_steps([step for step in steps if step["name"] not in without], values.get("steps", []))
    return merged


def with_settings_of(bases: list[Recipe], values: Values, path: Path) -> Values:
    """``values`` on top of the settings and profiles of ``bases``, of which the later take precedence.

    BadInput for a base with steps: those come from the first base alone.
    """
    for base in reversed(bases):
        if base.steps:
            raise BadInput(f"{path}: base {base.name} has steps, so it must be the first base. Move it or remove it.")
        below = base.model_dump(mode="json", include={"settings", "profiles"}, exclude_unset=True)
        values = merged_tables(below, values)
    return values


def merged_tables(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        return {key: merged_tables(below.get(key), above.get(key, below.get(key))) for key in {**below, **above}}
    return below if above is None else above


def merged_steps(below: list[Values], above: list[Values]) -> list[Values]:
    """The steps ``below`` with those ``above``.

    A step with the same name and rounds is merged; one with the same name in overlapping rounds replaces the old
    step; a new one is inserted after all steps that it reads.
    """
    steps = [dict(step) for step in below]
    for step in above:
        name, rounds = step.get("name"), step.get("rounds", "all")
        same = [place for place, other in enumerate(steps) if other["name"] == name]
        equal = [place for place in same if steps[place].get("rounds", "all") == rounds]
        if equal:
            steps[equal[0]] = merged_tables(steps[equal[0]], step)
            continue
        replaced = [place for place in same if overlap(steps[place].get("rounds", "all"), rounds)]
        if replaced:
            steps[replaced[0]] = step
            steps = [other for place, other in enumerate(steps) if place not in replaced[1:]]
            continue
        sources = {str(source).partition("@")[0] for source in step.get("reads", {}).values() if "@" not in str(source)}
        after = [place for place, other in enumerate(steps) if other["name"] in sources]
        steps.insert(max(after, default=-1) + 1, step)
    return steps


def random_partner(recipe: str) -> str | None:
    """The recipe that a shipped recipe or TOML file is compared with to see whether its choices beat chance.

    None if it names none or itself, and if there is no such recipe.
    """
    try:
        found = load_recipe(recipe)
    except BadInput:
        return None
    return found.random if found.random not in ("", found.name) else None


def recipe_names() -> list[str]:
    """The shipped recipes."""
    return sorted(path.stem for path in Path(data_folder("recipes")).glob("*.toml"))
