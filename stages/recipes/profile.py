"""Profiles: how hard to train on which data, the same for all recipes."""

from pathlib import Path

from pydantic import Field, ValidationError

from stages.datasets.fields import Table
from stages.recipes.recipe import Recipe, Rounds, Values, section_faults
from stages.recipes.resources import Kind, Resources, kind_of, usual
from stages.runtime.errors import BadInput
from stages.runtime.resources import data_folder, find_toml
from stages.settings.base import settings_faults
from stages.settings.toml_files import read_toml


class Profile(Table):
    """Named settings per stage, and the maximum number of rounds of a recipe.

    ``resources`` says what stages need (train, network: all others that run one, other) where that is not the usual.
    ``dataset`` is the name of the intended dataset, ``also`` names others that it fits, ``prepare`` is the way to
    prepare ``dataset`` unless a recipe has its own.
    """

    name: str = ""
    title: str
    dataset: str = ""
    also: tuple[str, ...] = ()
    prepare: str = ""
    rounds: int | None = Field(None, ge=1)
    settings: dict[str, Values] = Field(default_factory=dict)
    resources: dict[Kind, Resources] = Field(default_factory=dict)

    def needs(self, stage: str, on_device: bool) -> Resources:
        """What a scheduler has to grant ``stage``; ``on_device``: it runs a network."""
        kind = kind_of(stage, on_device)
        return self.resources.get(kind) or usual(kind)

    def fits(self, dataset: str) -> bool:
        """Whether the profile is for the dataset of that name, or for any."""
        return not self.dataset or dataset in (self.dataset, *self.also)


def load_profile(name_or_path: str | None) -> Profile:
    """A shipped profile by name or any other by path, an empty one for None; BadInput lists all faults."""
    if name_or_path is None:
        return Profile(title="", rounds=None)
    path = find_toml("profiles", name_or_path)
    try:
        profile = Profile.model_validate({"name": path.stem} | read_toml(path))
    except ValidationError as error:
        raise BadInput(settings_faults(Profile, error, str(path))) from None
    if faults := section_faults(profile.settings, "settings"):
        raise BadInput([f"{path}: {fault}" for fault in faults])
    return profile


def profile_names() -> list[str]:
    """The shipped profiles."""
    return sorted(path.stem for path in Path(data_folder("profiles")).glob("*.toml"))


def prepare_line(recipe: Recipe, profile: Profile) -> str:
    """The command that prepares the dataset of a profile for a recipe; empty without a profile."""
    return recipe.profile(profile.name).prepare or profile.prepare


def rounds_of(recipe: Recipe, profile: Profile) -> Rounds:
    """Rounds of a recipe under a profile: what the recipe sets for it, otherwise the smaller of the two."""
    own = recipe.profile(profile.name).rounds
    if own is not None:
        return own
    if recipe.rounds == "budget" or profile.rounds is None:
        return recipe.rounds
    return min(recipe.rounds, profile.rounds)
