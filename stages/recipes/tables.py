"""Published tables and curves: which runs give each row, and the numbers to compare them with."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from stages.datasets.fields import Count, Name
from stages.recipes.plan import Plan, check_settings, read_plan
from stages.recipes.profile import load_profile, prepare_line
from stages.recipes.recipe import load_recipe
from stages.runtime.errors import BadInput
from stages.runtime.resources import data_folder, find_toml
from stages.settings.base import settings_faults
from stages.settings.toml_files import read_toml


def _check_printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"{text!r} has a line break or control character. Remove it.")
    return text


def _check_percent(value: float) -> float:
    if not (math.isnan(value) or 0 <= value <= 100):
        raise ValueError(f"{value:g} is no number of percent. Write one in 0 to 100, or nan for one not published.")
    return value


Percent = Annotated[float, AfterValidator(_check_percent)]
Line = Annotated[str, Field(min_length=1), AfterValidator(_check_printable)]


class Part(BaseModel):
    """A table of the TOML file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Images(Part):
    """Images of each split, and their usual size when prepared."""

    train: Count
    val: Count = 0
    test: Count = 0
    size: tuple[Count, Count] = Field(description="height, width")


class Row(Part):
    """One published row: a run per seed, and its mIoU in % after each round.

    ``labels`` is what was labelled after each round (the table's if empty), ``mean`` and ``std`` what was published of
    it: one number per label, nan for one that was not, nothing if none was. ``full`` is the row of full supervision.
    """

    name: Line
    recipe: Name
    set: list[str] = Field(default_factory=list)
    labels: list[Line] = Field(default_factory=list)
    mean: list[Percent] = Field(default_factory=list)
    std: list[Percent] = Field(default_factory=list)
    seeds: Count | None = None
    full: str = ""
    evaluation: str = "evaluation"
    note: str = ""

    @property
    def folder(self) -> str:
        """The name in lower case with - between its words, for files and targets."""
        return "-".join(re.findall(r"[a-z0-9.]+", self.name.lower()))


class PublishedTable(Part):
    """A table or curve of a publication.

    All rows run on one prepared dataset: as the recipe of the first row is prepared under the profile, unless
    ``prepare`` says another command. ``cost`` is the unit of the labels, ``checkpoint`` the epoch that the publication
    reports, ``note`` what a reader must know of its numbers.
    """

    name: str = ""
    title: Line
    source: Line
    dataset: Name
    profile: Name
    own_prepare: str = Field("", alias="prepare")
    cost: Line
    checkpoint: Literal["best", "last"]
    seeds: Count = 1
    images: Images
    note: str = ""
    labels: list[Line] = Field(default_factory=list)
    rows: list[Row] = Field(min_length=1)

    @property
    def prepare(self) -> str:
        """The command that prepares the dataset."""
        return self.own_prepare or prepare_line(load_recipe(self.rows[0].recipe), load_profile(self.profile))

    def row(self, name: str) -> Row:
        """The row called ``name`` or with that folder; BadInput without one."""
        for row in self.rows:
            if name in (row.name, row.folder):
                return row
        raise BadInput(f"Table {self.name} has no row {name!r}. Choose one of {', '.join(r.name for r in self.rows)}.")

    def labels_of(self, row: Row) -> list[str]:
        """What was labelled after each round of ``row``."""
        return row.labels or self.labels

    def seeds_of(self, row: Row) -> int:
        return row.seeds or self.seeds

    def published(self, row: Row) -> list[tuple[float | None, float | None]]:
        """Published mean and spread after each round of ``row``, None where there is none."""
        return [
            (known(row.mean, place), known(row.std, place)) if row.mean else (None, None)
            for place in range(len(self.labels_of(row)))
        ]

    def plan(self, row: Row, overrides: Sequence[str] = ()) -> Plan:
        """The plan of ``row``; BadInput for what it or ``overrides`` name that does not exist or apply."""
        found = read_plan(row.recipe, self.profile, [*row.set, *overrides])
        check_settings(found)
        return found

    def rounds_of(self, row: Row, plan: Plan) -> int | None:
        """Rounds to plan: one per label; None if they follow from the budget."""
        return None if plan.recipe.rounds == "budget" else len(self.labels_of(row))


def known(values: Sequence[float], place: int) -> float | None:
    return None if not values or math.isnan(values[place]) else values[place]


def table_faults(table: PublishedTable) -> list[str]:
    """One sentence for each name used twice, each number without a label, each recipe or setting that is unknown."""
    faults = []
    folders = [row.folder for row in table.rows]
    for row in table.rows:
        where = f"row {row.name!r}"
        labels = table.labels_of(row)
        if not row.folder or folders.count(row.folder) > 1:
            faults.append(f"{where}: the name is used twice or has no letter or digit; rename it.")
        if not labels:
            faults.append(f"{where}: there are no labels; list what was labelled after each round.")
        for name, values in (("mean", row.mean), ("std", row.std)):
            if values and len(values) != len(labels):
                faults.append(
                    f"{where}: {name} has {len(values)} numbers for {len(labels)} labels; write one each, nan for one "
                    "that was not published."
                )
        if row.full and row.full not in [other.name for other in table.rows]:
            faults.append(f"{where}: full names {row.full!r}, which is no row of this table; name one.")
        try:
            plan = table.plan(row)
        except BadInput as error:
            faults += [f"{where}: {fault}" for fault in error.faults]
            continue
        if row.evaluation not in [step.name for step in plan.recipe.steps if step.stage == "evaluate"]:
            faults.append(f"{where}: recipe {row.recipe} has no step {row.evaluation!r} that evaluates; name one.")
    return faults


def load_table(name_or_path: str) -> PublishedTable:
    """A shipped table by name or any other by path; BadInput lists all faults."""
    path = find_toml("tables", name_or_path)
    try:
        table = PublishedTable.model_validate({"name": path.stem} | read_toml(path))
    except ValidationError as error:
        raise BadInput(settings_faults(PublishedTable, error, str(path))) from None
    if faults := table_faults(table):
        raise BadInput([f"{path}: {fault}" for fault in faults])
    return table


def table_names() -> list[str]:
    """The shipped tables."""
    return sorted(path.stem for path in Path(data_folder("tables")).glob("*.toml"))
