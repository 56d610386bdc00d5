"""Where the settings of a stage come from: defaults, the dataset, a recipe, a profile, options."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.recipes.profile import Profile, load_profile
from stages.recipes.recipe import Recipe, Step, Values, load_recipe
from stages.registry import STAGES
from stages.runtime.errors import BadInput
from stages.settings.base import StageSettings, fields_of

Layer = tuple[str, Mapping[str, Any]]
"""Source, and flat settings; later layers take precedence."""


@dataclass(frozen=True)
class Resolved:
    """The settings of a stage, and for each flat name where its value comes from."""

    settings: StageSettings
    sources: dict[str, str]


def resolve(
    stage: str,
    given: Mapping[str, Any],
    recipe: str | None = None,
    profile: str | None = None,
    dataset: Path | None = None,
    source: str = "option",
) -> Resolved:
    """The settings of ``stage``: defaults, then the dataset's, the recipe's, the profile's, and finally ``given``.

    Settings of the dataset, the recipe and the profile are for all steps of the stage, so they need not apply; those
    ``given`` must. Raises BadInput with all faults.
    """
    layers: list[Layer] = [] if dataset is None else [("dataset", dataset_defaults(dataset).get(stage, {}))]
    for each in filter(None, (STAGES[stage].settings_of, stage)):
        if recipe is None and profile is not None:
            found = load_profile(profile)
            layers.append((f"profile {found.name}", found.settings.get(each, {})))
        elif recipe is not None:
            layers += stage_layers(load_recipe(recipe), load_profile(profile), each)
    if STAGES[stage].settings_of:
        model = STAGES[stage].settings
        assert model is not None
        layers = [(name, {key: value[key] for key in value.keys() & fields_of(model).keys()}) for name, value in layers]
    return combined(stage, layers, [(source, given)])


def combined(stage: str, offered: Iterable[Layer], explicit: Iterable[Layer]) -> Resolved:
    """Settings from layers that need not apply and layers that must."""
    model = STAGES[stage].settings
    assert model is not None
    below: Values = {}
    above: Values = {}
    sources: dict[str, str] = {}
    for name, values in offered:
        below |= values
        sources |= dict.fromkeys(values, name)
    for name, values in explicit:
        above |= values
        sources |= dict.fromkeys(values, name)
    settings = model.load(above, stage, below)
    return Resolved(settings, {name: sources.get(name, "default") for name in settings.flat()})


def stage_layers(recipe: Recipe, profile: Profile, stage: str) -> list[Layer]:
    """The settings of a recipe and a profile for all steps of ``stage``."""
    return [
        (f"recipe {recipe.name}", recipe.settings.get(stage, {})),
        (f"profile {profile.name}", profile.settings.get(stage, {})),
        (f"profile {profile.name} of the recipe", recipe.profile(profile.name).settings.get(stage, {})),
    ]


def step_values(recipe: Recipe, profile: Profile, step: Step, overrides: Mapping[str, Values]) -> Values:
    """The settings of ``step`` only: from the recipe, from its profile, from ``overrides`` under the step's name."""
    return step.settings | recipe.profile(profile.name).steps.get(step.name, {}) | overrides.get(step.name, {})


def step_settings(
    recipe: Recipe,
    profile: Profile,
    step: Step,
    overrides: Mapping[str, Values] | None = None,
    defaults: Mapping[str, Values] | None = None,
) -> StageSettings:
    """The settings of one step of a run; ``defaults`` are the dataset's by stage."""
    overrides = overrides or {}
    offered = [
        ("dataset", (defaults or {}).get(step.stage, {})),
        *stage_layers(recipe, profile, step.stage),
        ("--set", overrides.get(step.stage, {})),
    ]
    return combined(step.stage, offered, [("step", step_values(recipe, profile, step, overrides))]).settings


def dataset_defaults(dataset: Path) -> dict[str, Values]:
    """Defaults by stage in a prepared dataset, such as the split to evaluate on; empty if it cannot be read.

    The stage that opens the dataset reports what is wrong with the file.
    """
    from stages.artifacts.dataset import Dataset

    try:
        with Dataset(dataset) as data:
            return json.loads(data.attributes.get("defaults", "{}"))
    except BadInput:
        return {}
