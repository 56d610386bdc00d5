"""The targets of runs that are planned: by run.toml, or by a Makefile or Snakefile that `alseg plan` wrote."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.artifacts.rounds import round_of
from stages.recipes.following import follow
from stages.recipes.people import EXPORT, FILES, PAGE
from stages.runtime.errors import BadInput
from stages.settings.plan_files import FOLDERS_ABOVE, SHARD, plan_files, read_plan_file
from stages.settings.toml_files import RUN_FILE

RULE = re.compile(r"^(?P<target>[^\s:=]+): *\|? *(?P<needs>[^=\n]*)$(?P<recipe>(?:\n\t.*)*)", re.M)
VARIABLE = re.compile(r"^(RUN|DATASET) \?= (.+)$", re.M)
SHARDS = re.compile(r" \$\(addprefix \S+,\$\(SHARDS_\d+\)\)")
STAGE = re.compile(r"\$\((?:ALSEG|TRAIN)\) ([a-z-]+)")
SNAKE_RULE = re.compile(r"^rule (?!all:)\w+:\n(?P<body>(?:[ \t]+.*\n?)+)", re.M)
SNAKE_STAGE = re.compile(r"(?:ALSEG|TRAIN) \+ ['\"] ([a-z-]+)")
SNAKE_FILE = re.compile(r"'([^']*)'")


@dataclass(frozen=True)
class Target:
    """A file of a plan with what it is made from. ``stage``: "link" if another run makes it, "" if people bring it.

    ``run``: the folder of its run. ``round`` is None for what is made outside rounds.
    """

    path: Path
    needs: tuple[Path, ...]
    stage: str
    run: Path
    round: int | None

    @property
    def by_people(self) -> bool:
        return self.stage in ("", PAGE, FILES, EXPORT)


@dataclass(frozen=True)
class PlannedRun:
    """A run folder with its targets in the order of the plan, and the file that plans it.

    ``others`` are the targets of other runs of the same plan, which may read files of this one.
    """

    folder: Path
    plan: Path
    targets: list[Target]
    others: list[Target]

    @property
    def every(self) -> list[Target]:
        return [*self.targets, *self.others]


def planned_runs(folders: Sequence[Path]) -> list[PlannedRun]:
    """The runs in ``folders``, each a run or the folder of several; BadInput with all that are neither."""
    faults: list[str] = []
    found: dict[Path, PlannedRun] = {}
    for folder in folders:
        try:
            found |= {run.folder.resolve(): run for run in runs_in(folder)}
        except BadInput as error:
            faults += error.faults
    if faults:
        raise BadInput(faults)
    return list(found.values())


def runs_in(folder: Path) -> list[PlannedRun]:
    """The run in ``folder``, or the runs in folders in it, planned by run.toml or by one file of `alseg plan`."""
    if not folder.is_dir():
        raise BadInput(f"There is no folder {folder}. Pass the folder of a run or of several.")
    if (folder / RUN_FILE).is_file():
        return [followed(folder)]
    for plan in plan_files(folder):
        if runs := placed(folder, plan):
            return runs
    inside = sorted(path.parent for path in folder.glob(f"*/{RUN_FILE}"))
    if inside:
        return [followed(each) for each in inside]
    raise BadInput(
        f"{folder} is not planned: neither {RUN_FILE} in it, nor a Makefile or Snakefile of `alseg plan` in it or "
        f"up to {FOLDERS_ABOVE} folders above lists its files. Put its plan beside it."
    )


def followed(folder: Path) -> PlannedRun:
    """A run folder written by `alseg init`."""
    targets = []
    for command in follow(folder).commands:
        inside = command.output.parent != folder
        if command.awaits is not None:
            brought, exported = command.awaits
            targets.append(Target(brought, (exported,), "", folder, command.round))
        round_number = command.round if inside else None
        targets.append(Target(command.output, command.needs, command.stage, folder, round_number))
    return PlannedRun(folder, folder / RUN_FILE, targets, [])


def placed(folder: Path, plan: Path) -> list[PlannedRun]:
    """The runs of the file ``plan`` that lie in ``folder`` or are it; none if it plans other folders."""
    text = read_plan_file(plan)
    rules = list(make_rules(text) if VARIABLE.search(text) else snake_rules(text))
    names = list(dict.fromkeys(run for target, _, _ in rules if (run := run_of(target))))
    here = folder.resolve().parts
    for above in (0, 1):  # the folder is a run, or has runs in it
        places = {run: parts[: len(parts) - above] for run in names if (parts := Path(run).parts)}
        wanted = [run for run, parts in places.items() if parts and here[-len(parts) :] == parts]
        if wanted:
            base = Path(*here[: len(here) - len(places[wanted[0]])])
            return runs_of(rules, names, wanted, Path(os.path.relpath(base)), plan)
    return []


def runs_of(
    rules: Sequence[tuple[str, list[str], str]], names: Sequence[str], wanted: Sequence[str], base: Path, plan: Path
) -> list[PlannedRun]:
    """The runs ``wanted`` of those called ``names``; ``base`` is where make runs."""
    targets = []
    for target, needs, stage in rules:
        inside = [name for name in names if target.startswith(f"{name}/")]
        if inside:
            paths = tuple(base / need for need in needs)
            targets.append(Target(base / target, paths, stage, base / max(inside, key=len), round_of(Path(target))))
    return [
        PlannedRun(
            base / name,
            plan,
            [each for each in targets if each.run == base / name],
            [each for each in targets if each.run != base / name],
        )
        for name in wanted
    ]


def run_of(target: str) -> str:
    """The folder of the run of a target in a round; empty for others."""
    path = Path(target)
    return "" if round_of(path) is None else str(path.parent.parent)


def make_rules(text: str) -> Iterator[tuple[str, list[str], str]]:
    """Target, prerequisites and stage of each rule of a Makefile."""
    values = {f"$({name})": value.strip() for name, value in VARIABLE.findall(text)}
    for found in RULE.finditer(SHARDS.sub("", text)):
        target, needs = found["target"], [need for need in found["needs"].split() if need != "|"]
        if not target.startswith("$(RUN)/"):
            continue
        stage = STAGE.search(found["recipe"])
        named = stage[1] if stage else "link" if "$(LINK)" in found["recipe"] else ""
        yield filled(target, values), [filled(need, values) for need in needs], named


def filled(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def snake_rules(text: str) -> Iterator[tuple[str, list[str], str]]:
    """Target, prerequisites and stage of each rule of a Snakefile."""
    for found in SNAKE_RULE.finditer(text):
        read, _, rest = found["body"].partition("    output: ")
        written = SNAKE_FILE.match(rest)
        if written is not None:
            stage = SNAKE_STAGE.search(rest)
            needs = [file for file in SNAKE_FILE.findall(read) if not file.endswith(SHARD)]
            yield written[1], needs, stage[1] if stage else "link"
