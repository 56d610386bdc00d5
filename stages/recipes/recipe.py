"""Recipes: a method as settings per stage, profiles per dataset, and the chain of steps that `plan` writes out."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stages.registry import SETTINGS
from stages.runtime.errors import BadInput
from stages.runtime.resources import find_toml
from stages.settings.base import settings_faults

Values = dict[str, Any]
# "budget": as many as it takes to ask for the budget of images that the settings of select name
Rounds = Annotated[int, Field(ge=1)] | Literal["budget"]


class Step(BaseModel):
    """One artifact of a round.

    ``reads`` maps the stage's inputs to the names of steps: of this round (``scores``) or of the round before
    (``model@before``), or of one that is made once. An input from the round before is left out in round 0. Steps at the
    end are made once, after the last round, whose steps they read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    stage: str
    rounds: Literal["once", "all", "first", "later", "end"] = "all"
    reads: dict[str, str] = {}
    settings: Values = {}


class Profile(BaseModel):
    """What a recipe changes on one dataset: the number of rounds, settings per stage, and per step by its name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rounds: Rounds | None = None
    settings: dict[str, Values] = {}
    steps: dict[str, Values] = {}


class Recipe(BaseModel):
    """A method or baseline (design §8)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = ""
    title: str
    source: str
    rounds: Rounds = 1
    settings: dict[str, Values] = {}
    profiles: dict[str, Profile] = {}
    steps: list[Step] = []

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        faults = []
        sections = [("", self.settings), *((f"profiles.{name}.", p.settings) for name, p in self.profiles.items())]
        for prefix, section in sections:
            for stage, values in section.items():
                if stage not in SETTINGS:
                    faults.append(f"{prefix}settings.{stage}: there is no such stage; known are {', '.join(SETTINGS)}")
                else:
                    unknown = sorted(set(values) - set(SETTINGS[stage].model_fields))
                    faults += [f"{prefix}settings.{stage}.{name}: unknown setting" for name in unknown]
        names = [step.name for step in self.steps]
        stages = {step.name: step.stage for step in self.steps if step.stage in SETTINGS}
        for profile, own in self.profiles.items():
            for name, values in own.steps.items() if self.steps else ():
                known = SETTINGS[stages[name]].model_fields if name in stages else {}
                unknown = sorted(set(values) - set(known)) if name in stages else ["there is no such step"]
                faults += [f"profiles.{profile}.steps.{name}: {fault}" for fault in unknown]
        for number, step in enumerate(self.steps):
            if step.stage not in SETTINGS:
                faults.append(f"steps.{step.name}: there is no stage {step.stage!r}; known are {', '.join(SETTINGS)}")
                continue
            if names.index(step.name) != number and self.steps[names.index(step.name)].rounds == step.rounds:
                faults.append(f"steps.{step.name}: the name is used twice in the same rounds")
            unknown = sorted(set(step.settings) - set(SETTINGS[step.stage].model_fields))
            faults += [f"steps.{step.name}.settings.{name}: unknown setting" for name in unknown]
            for role, source in step.reads.items():
                target, _, when = source.partition("@")
                if target not in names or when not in ("", "before"):
                    faults.append(f"steps.{step.name}.reads.{role}: {source!r} is no step of this recipe")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def profile(self, name: str | None) -> Profile:
        """The profile called ``name``; the empty one for None. BadInput names the known ones."""
        if name is None:
            return Profile(rounds=None)
        if name not in self.profiles:
            known = ", ".join(self.profiles) or "none"
            raise BadInput(f"Recipe {self.name} has no profile {name!r}; known are {known}.")
        return self.profiles[name]

    def step_values(self, step: Step, profile: str | None, extra: dict[str, Values]) -> Values:
        """What ``step`` says on top of its stage's settings.

        In the order in which one overrides the next: ``extra`` by the name of the step, the profile's for the step,
        the step's own, ``extra`` by the stage.
        """
        own = step.settings | self.profile(profile).steps.get(step.name, {}) | extra.get(step.name, {})
        return {name: value for name, value in extra.get(step.stage, {}).items() if name not in own} | own

    def stage_values(self, stage: str, profile: str | None) -> Values:
        """The settings of ``stage``: the recipe's, overridden by the profile's."""
        return self.settings.get(stage, {}) | self.profile(profile).settings.get(stage, {})


def load_recipe(name_or_path: str, above: tuple[Path, ...] = ()) -> Recipe:
    """A shipped recipe by name or the user's own by path; BadInput lists all faults.

    ``above`` are the recipes that it is the base of.
    """
    path = find_toml("recipes", name_or_path)
    if path in above:
        raise BadInput(f"{path} is its own base; name another recipe as its base.")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not valid TOML: {error}.") from error
    base = values.pop("base", None)
    if base is not None:
        if not isinstance(base, str):
            raise BadInput(f"{path}: base = {base!r} must be the name of a shipped recipe or the path of a TOML file.")
        base = str(path.parent / base) if base.endswith(".toml") else base
        values = inherit(load_recipe(base, (*above, path)), values)
    try:
        return Recipe.model_validate({"name": path.stem} | values)
    except ValidationError as error:
        raise BadInput(settings_faults(Recipe, error, str(path))) from None


def inherit(base: Recipe, values: Values) -> Values:
    """``values`` on top of ``base``: tables are merged, everything else (the steps too) replaces."""

    def merged(below: Any, above: Any) -> Any:
        if isinstance(below, dict) and isinstance(above, dict):
            return {key: merged(below.get(key), above.get(key, below.get(key))) for key in {**below, **above}}
        return below if above is None else above

    below = base.model_dump(mode="json", exclude={"name"}, exclude_unset=True)
    steps = values.get("steps")
    if isinstance(steps, list):  # the base's steps go, and what its profiles say about them
        kept = {step.get("name") for step in steps if isinstance(step, dict)}
        for profile in below.get("profiles", {}).values():
            profile["steps"] = {name: own for name, own in profile.get("steps", {}).items() if name in kept}
    return merged(below, values)


def recipe_names() -> list[str]:
    from stages.runtime.resources import data_folder

    return sorted(path.stem for path in Path(data_folder("recipes")).glob("*.toml"))
