"""`run.toml`: what a run folder is about. `alseg init` writes it, `next` and `status` read it, people may edit it."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from stages.datasets.fields import Table
from stages.recipes.people import Way
from stages.recipes.recipe import Values, section_faults
from stages.runtime.errors import BadInput
from stages.settings.base import settings_faults
from stages.settings.toml_files import RUN_FILE, read_toml


class Change(Table):
    """Another recipe from a round on."""

    round: Annotated[int, Field(ge=1)]
    recipe: str
    settings: dict[str, Values] = Field(default_factory=dict)


class RunFile(Table):
    """A run: files relative to its folder, recipe and profile by name or file, settings per stage on top of them.

    ``answers``: people on the page, people by files, or the simulation. ``labels``: a ledger that takes the place of
    the answers of round 0.
    """

    dataset: str = "dataset.h5"
    recipe: str
    profile: str | None = None
    answers: Literal["people", "files", "simulated"] = "people"
    rounds: Annotated[int, Field(ge=1)] | None = None
    labels: str | None = None
    settings: dict[str, Values] = Field(default_factory=dict)
    changes: tuple[Change, ...] = ()

    @property
    def people(self) -> Way | None:
        """The way in which people answer; None if answers are simulated."""
        ways: dict[str, Way | None] = {"people": "page", "files": "files", "simulated": None}
        return ways[self.answers]


def read_run_file(run: Path) -> RunFile:
    """The content of ``run``/run.toml; BadInput if there is none, or with all its faults."""
    path = run / RUN_FILE
    if not path.is_file():
        raise BadInput(f"{run} has no {RUN_FILE}. Pass a run folder written by `alseg init`, or write {RUN_FILE}.")
    try:
        found = RunFile.model_validate(read_toml(path))
    except ValidationError as error:
        raise BadInput(settings_faults(RunFile, error, str(path))) from None
    faults = section_faults(found.settings, "settings")
    faults += [fault for change in found.changes for fault in section_faults(change.settings, "changes.settings")]
    rounds = [change.round for change in found.changes]
    if rounds != sorted(set(rounds)):
        faults.append("changes: list each round once, in order.")
    if faults:
        raise BadInput([f"{path}: {fault}" for fault in faults])
    return found


def file_or_name(run: Path, name: str) -> str:
    """The recipe or profile that run.toml means: a file beside it, or a shipped name."""
    return str(run / name) if name.endswith(".toml") and (run / name).is_file() else name
