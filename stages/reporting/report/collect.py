"""Folders of runs as plain data: evaluation results and the headers of all artifacts."""

import itertools
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pydantic import create_model

from stages.artifacts.header import Header, InputRef
from stages.artifacts.opening import read_any_header
from stages.artifacts.rounds import ROUND_FOLDERS, round_of
from stages.registry import SETTINGS
from stages.reporting.measured import Measured, measured_in
from stages.runtime.errors import BadInput
from stages.settings.base import StageSettings
from stages.settings.plan_files import plan_files, read_plan_file
from stages.settings.toml_files import RUN_FILE, read_toml


@dataclass(frozen=True)
class Node:
    """An artifact of a run: its path from the run's folder, and its header."""

    file: str
    path: Path
    round: int | None
    header: Header

    @property
    def digest(self) -> str:
        return self.header.digest

    @cached_property
    def settings(self) -> StageSettings:
        return recorded(self.header)

    def source(self, ref: InputRef) -> Path:
        """Path of the input ``ref`` when the artifact was made."""
        return ref.path(self.path)


def recorded(header: Header) -> StageSettings:
    """The applicable settings that an artifact was made with; settings newer than the file have their defaults.

    Settings of an unknown stage or plug-in are taken from the file as they are.
    """
    model = SETTINGS.get(header.stage)
    try:
        return (model or StageSettings).load({}, offered=header.settings)
    except BadInput:
        values = {name: (type(value), value) for name, value in header.settings.items()}
        return create_model("Recorded", __base__=StageSettings, **values)()  # type: ignore[call-overload]


@dataclass(frozen=True)
class Plan:
    """What a run follows, a Makefile or run.toml: the command that goes on with it, its title, recipe and profile."""

    command: str
    title: str
    recipe: str
    profile: str | None

    def __str__(self) -> str:
        return self.recipe + (f", profile {self.profile}" if self.profile else "")


@dataclass
class Run:
    """A folder of rounds. `notes` are sentences about what is missing or cannot be read.

    `damaged` are the evaluations that are not among the measured ones, with their faults.
    """

    name: str
    folder: Path
    measured: list[Measured]
    nodes: list[Node]
    plan: Plan | None
    notes: list[str] = field(default_factory=list)
    damaged: dict[Path, list[str]] = field(default_factory=dict)

    @cached_property
    def by_digest(self) -> dict[str, Node]:
        return {node.digest: node for node in self.nodes}

    def of_kind(self, kind: str) -> list[Node]:
        """The artifacts of ``kind``, in the order of the rounds; those at the end come last."""
        return [node for node in self.nodes if node.header.kind == kind]

    @property
    def seeds(self) -> list[int]:
        return sorted({node.header.seed for node in self.nodes})

    @property
    def versions(self) -> dict[str, str]:
        """Package versions the run was made with; all of them if a package changed during the run."""
        found: dict[str, dict[str, None]] = {}
        for node in self.nodes:
            for package, version in node.header.versions.items():
                found.setdefault(package, {})[version] = None
        return {package: ", ".join(every) for package, every in sorted(found.items())}

    @cached_property
    def dataset(self) -> tuple[Node, InputRef] | None:
        """The dataset that most artifacts were made from: one of them, and its reference to it."""
        made = [(node, node.header.inputs["dataset"]) for node in self.nodes if "dataset" in node.header.inputs]
        if not made:
            return None
        digest = Counter(ref.digest for _, ref in made).most_common(1)[0][0]
        return next((node, ref) for node, ref in made if ref.digest == digest)

    @property
    def dataset_digest(self) -> str:
        return "" if self.dataset is None else self.dataset[1].digest

    @cached_property
    def dataset_header(self) -> Header | None:
        """The header of the dataset; None if the file is missing or has changed."""
        if self.dataset is None:
            return None
        node, ref = self.dataset
        try:
            header = read_any_header(node.source(ref))
        except BadInput:
            return None
        return header if header.digest == ref.digest else None

    @property
    def classes(self) -> list[str]:
        """The classes in the order of the dataset, or of the evaluations if the dataset is missing."""
        if self.dataset_header is not None:
            return list(self.dataset_header.attributes["classes"])
        return list(self.measured[-1].iou) if self.measured else []


def collect_runs(folders: list[Path], checkpoint: str, evaluation: str) -> list[Run]:
    """The runs in ``folders``; BadInput for folders that are not runs."""
    faults: list[str] = []
    runs: list[Run] = []
    for name, folder in zip(unique(run_names(folders)), folders, strict=True):
        try:
            runs.append(collect_run(folder, name, checkpoint, evaluation))
        except BadInput as error:
            faults += error.faults
    if faults:
        raise BadInput(faults)
    return runs


def run_names(runs: list[Path]) -> list[str]:
    """Folder names, prefixed with the parent folder if they are not unique."""
    names = [path.resolve().name for path in runs]
    if len(set(names)) == len(names):
        return names
    return [f"{path.resolve().parent.name}/{path.resolve().name}" for path in runs]


def unique(names: list[str]) -> list[str]:
    """``names`` with a number appended to repeated ones."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def require_one_split(measured: Iterable[Measured]) -> None:
    """BadInput if the runs were evaluated on different splits: their numbers are not comparable."""
    splits = sorted({entry.split for entry in measured})
    if len(splits) > 1:
        raise BadInput(
            f"The runs were evaluated on different splits ({', '.join(splits)}). Evaluate all on the same split."
        )


def collect_run(folder: Path, name: str, checkpoint: str, evaluation: str) -> Run:
    """The data of a run, finished or not; BadInput for a folder without any."""
    if not folder.is_dir():
        raise BadInput(f"There is no folder {folder}. Pass the folder of a run, which contains round-0, round-1, ...")
    notes: list[str] = []
    nodes = list(read_nodes(folder, notes))
    measured, damaged = measured_in(folder, checkpoint, evaluation)
    for path, faults in damaged.items():  # those without a readable header have a note already
        file = path.relative_to(folder).as_posix()
        if any(node.file == file for node in nodes):
            notes += [fault.replace(str(path), file) for fault in faults]
    if not nodes and not measured:
        raise BadInput(
            [
                f"{folder} is not a run: neither it nor a folder round-0, round-1, ... in it contains a readable "
                "artifact. Pass the folder that a Makefile of `alseg plan` writes to.",
                *notes,
            ]
        )
    if not measured and not any(node.header.attributes.get("measured_at") == "answers" for node in nodes):
        notes.append(f"There is no {evaluation}.h5 with {checkpoint} weights; the run is not in the curves.")
    run = Run(name, folder, measured, in_order(nodes), find_plan(folder), notes, damaged)
    if len({ref.digest for node in nodes if (ref := node.header.inputs.get("dataset"))}) > 1:
        notes.append("Its artifacts were made from different datasets.")
    return run


def files_of(folder: Path, pattern: str) -> list[Path]:
    """The files of a run that match ``pattern``, without hidden ones, in its folder and its rounds."""
    found = [*folder.glob(f"{ROUND_FOLDERS}/{pattern}"), *folder.glob(pattern)]
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def read_nodes(folder: Path, notes: list[str]) -> Iterator[Node]:
    for path in [*files_of(folder, "*.h5"), *files_of(folder, "*.safetensors")]:
        file = path.relative_to(folder).as_posix()
        try:
            yield Node(file, path, round_of(path), read_any_header(path))
        except BadInput as error:
            notes += [fault.replace(str(path), file) for fault in error.faults]


def in_order(nodes: list[Node]) -> list[Node]:
    """Sorted by round; artifacts made once before the rounds come first, those made at the end last."""
    read = {ref.digest for node in nodes if node.round is not None for ref in node.header.inputs.values()}

    def place(node: Node) -> tuple[int, str, str]:
        outside = -1 if node.digest in read else 1 << 30
        return (outside if node.round is None else node.round, node.header.created, node.file)

    return sorted(nodes, key=place)


def find_plan(folder: Path) -> Plan | None:
    """The run.toml of a run, or the Makefile that `alseg plan` wrote for it, in its folder or up to two above."""
    if (folder / RUN_FILE).is_file():
        return follows_run_file(folder)
    here = folder.resolve().parts
    for path in plan_files(folder):
        text = read_plan_file(path)
        named = re.search(r"^RUN \?= (.+)$", text, re.M)
        if named is None:  # not a Makefile
            continue
        for name, title, rules in runs_in(text):
            parts = Path(named[1].strip(), name).parts
            recipe = planned_option(rules, "--recipe")
            if recipe is not None and here[-len(parts) :] == parts:
                command = shlex.join(["make", "-f", path.name, *([name] if name else [])])
                return Plan(command, title, recipe, planned_option(rules, "--profile"))
    return None


def runs_in(text: str) -> Iterator[tuple[str, str, str]]:
    """Folder, title and rules of each run in a Makefile; the folder is empty if there is one only."""
    first = re.match(r"# (.*?): \d+ rounds", text)
    heads = list(re.finditer(r"^# (\S+) is (.*?): \d+ rounds.*\n\1:", text, re.M))
    if not heads:
        yield "", first[1] if first else "", text
    for head, after in itertools.zip_longest(heads, heads[1:]):
        yield head[1], head[2], text[head.end() : None if after is None else after.start()]


def follows_run_file(folder: Path) -> Plan | None:
    """What the run.toml that `alseg init` wrote says; None if it cannot be read."""
    try:
        values = read_toml(folder / RUN_FILE)
    except BadInput:
        return None
    recipe, profile = (str(values.get(name, "")) for name in ("recipe", "profile"))
    command = shlex.join(["alseg", "next", str(folder)])
    return Plan(command, folder.resolve().name, recipe, profile or None) if recipe else None


def planned_option(text: str, option: str) -> str | None:
    """The value of the first ``option`` in a plan, as its command gets it; None if it has none."""
    found = re.search(rf"^\t.*? {option} (.+)$", text, re.M)
    try:
        return shlex.split(found[1].replace("$$", "$"))[0] if found else None
    except ValueError:  # written by hand
        return None
