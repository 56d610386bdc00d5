"""docs/reference/recipes.md: recipes, profiles and datasets that are shipped."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from stages.datasets.description import DatasetDescription, load_description
from stages.recipes.profile import Profile, load_profile, profile_names
from stages.recipes.recipe import Recipe, load_recipe, recipe_names
from stages.runtime.resources import data_folder
from stages.settings.toml_files import read_toml
from tests.reference.markdown import code, codes, first_sentence, page, points, table

Value = TypeVar("Value")

RECIPES = """A recipe is a method: settings per stage and the steps of a round. `alseg plan RECIPE DATASET` writes it as
a Makefile, `--recipe RECIPE` passes its settings to one stage. A recipe that builds on another one inherits what it
does not change. [Methods](../explanation/methods.md) tells what each does and where it departs from the published
code."""

STEPS = """The steps of each recipe in order. Steps made once are made before round 0; steps at the end, after the last
round."""

PROFILES = """A profile is how hard to train on which data. Every recipe can be used with every profile; some recipes
change a few settings under one (last column of the first table)."""

PREPARED = """These recipes need other sizes than that:"""

DATASETS = """`alseg prepare NAME --root FOLDER` packs one of these. [Your own](../how-to/own-data.md) needs one TOML
file."""


def recipes_page() -> str:
    recipes = [load_recipe(name) for name in recipe_names()]
    profiles = [load_profile(name) for name in profile_names()]
    datasets = [load_description(path.stem) for path in sorted(data_folder("datasets").glob("*.toml"))]
    return page(
        [
            "# Recipes, profiles, datasets",
            "## Recipes",
            RECIPES,
            table(("recipe", "method", "builds on", "rounds", "changes under profiles"), map(recipe_row, recipes)),
            "Sources:",
            points(f"{names}: {source}" for source, names in alike((each.source, each) for each in recipes)),
            "## Steps",
            STEPS,
            table(
                ("recipe", "once", "round 0", "later rounds", "at the end"),
                ((names, *steps) for steps, names in alike((steps_of(each), each) for each in recipes)),
            ),
            "## Profiles",
            PROFILES,
            table(("profile", "training", "dataset", "prepare with", "most rounds"), map(profile_row, profiles)),
            PREPARED,
            table(("profile", "recipe", "prepare with"), prepare_rows(recipes)),
            "## Datasets",
            DATASETS,
            table(("dataset", "contents", "splits", "licence", "notes"), map(dataset_row, datasets)),
        ]
    )


def recipe_row(recipe: Recipe) -> tuple[str, ...]:
    path = data_folder("recipes") / f"{recipe.name}.toml"
    rounds = "as the budget takes" if recipe.rounds == "budget" else str(recipe.rounds)
    about = first_sentence(comment(path)) or recipe.title
    return code(recipe.name), about, builds_on(path), rounds, codes(sorted(recipe.profiles))


def builds_on(path: Path) -> str:
    base = read_toml(path).get("base", [])
    return codes([base] if isinstance(base, str) else base)


def comment(path: Path) -> str:
    """The comment at the top of a TOML file, as one line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    end = next((place for place, each in enumerate(lines) if not each.startswith("#")), len(lines))
    return " ".join(each.removeprefix("#").strip() for each in lines[:end])


def alike(pairs: Iterable[tuple[Value, Recipe]]) -> Iterator[tuple[Value, str]]:
    """Each value once, with the names of the recipes that have it."""
    found: dict[Value, list[str]] = {}
    for value, recipe in pairs:
        found.setdefault(value, []).append(recipe.name)
    return ((value, codes(names)) for value, names in found.items())


def steps_of(recipe: Recipe) -> tuple[str, ...]:
    """The names of the steps: made once, in round 0, in later rounds, at the end."""
    later = ("all", "later") if recipe.rounds != 1 else ()
    occasions = (("once",), ("all", "first"), later, ("end",))
    return tuple(", ".join(step.name for step in recipe.steps if step.rounds in those) for those in occasions)


def profile_row(profile: Profile) -> tuple[str, ...]:
    rounds = "" if profile.rounds is None else str(profile.rounds)
    return code(profile.name), profile.title, code(profile.dataset), code(profile.prepare), rounds


def prepare_rows(recipes: Iterable[Recipe]) -> Iterator[tuple[str, ...]]:
    """Profile, recipes and their own command to prepare its dataset."""
    own = (((name, each.profile(name).prepare), each) for each in recipes for name in each.profiles)
    found = sorted(alike(pair for pair in own if pair[0][1]))
    return ((code(profile), names, code(command)) for (profile, command), names in found)


def dataset_row(dataset: DatasetDescription) -> tuple[str, ...]:
    page = f" [Home page]({dataset.homepage})." if dataset.homepage else ""
    return code(dataset.name), dataset.title, codes(dataset.split_names), dataset.licence, dataset.notes + page
