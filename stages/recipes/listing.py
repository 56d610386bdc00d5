"""Lists of the shipped recipes, profiles and datasets, with a title each."""

from collections.abc import Iterable

from rich.table import Column, Table

from stages.datasets.description import load_description
from stages.recipes.profile import load_profile, profile_names
from stages.recipes.recipe import load_recipe, recipe_names
from stages.runtime.console import print_table
from stages.runtime.resources import data_folder


def list_recipes() -> None:
    """Prints name, title and source of each shipped recipe."""
    found = [load_recipe(name) for name in recipe_names()]
    rows = [(each.name, each.title, each.source) for each in found if each.steps]  # others are bases of recipes
    show(("recipe", "method", "source"), rows)


def list_profiles() -> None:
    """Prints name, title and preparation of each shipped profile."""
    found = [load_profile(name) for name in profile_names()]
    show(("profile", "training", "prepare with"), [(each.name, each.title, each.prepare) for each in found])


def list_datasets() -> None:
    """Prints name, title and licence of each shipped dataset."""
    names = sorted(path.stem for path in data_folder("datasets").glob("*.toml"))
    found = [load_description(name) for name in names]
    show(("dataset", "contents", "licence"), [(each.name, each.title, each.licence) for each in found])


def show(columns: Iterable[str], rows: Iterable[tuple[str, ...]]) -> None:
    first, *others = columns
    table = Table(Column(first, no_wrap=True), *others, box=None, pad_edge=False)  # names that can be copied
    for row in rows:
        table.add_row(*row)
    print_table(table)
