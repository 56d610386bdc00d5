"""Groups of runs that differ only by seed: mean and spread."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from stages.reporting.measured import Measured
from stages.reporting.report.collect import Node, Run

# Inputs that come from outside a run; all others follow from settings, seed and these
OUTSIDE = ("dataset", "weights")


@dataclass(frozen=True)
class Spread:
    """A mean with its sample standard deviation (None for a single value)."""

    mean: float
    deviation: float | None = None


@dataclass(frozen=True)
class Point:
    """A round of a group: the mean over the runs that have reached it."""

    round: int | None
    runs: int
    asked: float | None
    clicks: float
    seconds: float
    answers: float
    miou: Spread
    iou: dict[str, Spread | None]
    epochs: list[int]


@dataclass(frozen=True)
class Group:
    """Runs that differ only by seed; often a single run."""

    name: str
    runs: list[Run]

    @property
    def title(self) -> str:
        """The name, with the number of seeds if there are several."""
        return self.name if len(self.runs) == 1 else f"{self.name} ({len(self.runs)} seeds)"

    @property
    def points(self) -> list[Point]:
        """A point per round, sorted by clicks."""
        most = max(len(run.measured) for run in self.runs)
        return [
            point_of([run.measured[place] for run in self.runs if place < len(run.measured)]) for place in range(most)
        ]

    @property
    def whole_points(self) -> list[Point]:
        """The rounds that all runs of the group have reached: a mean over fewer would jump."""
        members = sum(bool(run.measured) for run in self.runs)
        return [point for point in self.points if point.runs == members]

    @property
    def classes(self) -> list[str]:
        return next((run.classes for run in self.runs if run.classes), [])


def point_of(entries: Sequence[Measured]) -> Point:
    iou: dict[str, Spread | None] = {}
    asked = [entry.asked for entry in entries if entry.asked is not None]
    for name in dict.fromkeys(name for entry in entries for name in entry.iou):
        known = [value for entry in entries if (value := entry.iou.get(name)) is not None]
        iou[name] = mean_and_spread(known) if known else None
    return Point(
        round=entries[0].round,
        runs=len(entries),
        asked=fmean(asked) if asked else None,
        clicks=fmean(entry.clicks for entry in entries),
        seconds=fmean(entry.seconds for entry in entries),
        answers=fmean(entry.answers for entry in entries),
        miou=mean_and_spread([entry.miou for entry in entries]),
        iou=iou,
        epochs=sorted({entry.epoch for entry in entries}),
    )


def mean_and_spread(values: Sequence[float]) -> Spread:
    return Spread(fmean(values), stdev(values) if len(values) > 1 else None)


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """The runs grouped if only the seed differs, in the order given."""
    found: list[list[Run]] = []
    requests = {id(run): {node.file: request(node) for node in run.nodes} for run in runs}
    for run in runs:
        for members in found:
            if all(differ_by_seed_alone(run, other, requests) for other in members):
                members.append(run)
                break
        else:
            found.append([run])
    groups: list[Group] = []
    for members in found:
        name = group_name(members)
        taken = [group.name for group in groups]
        groups.append(Group(f"{name}, {len(taken)}" if name in taken else name, members))
    return groups


def group_name(members: Sequence[Run]) -> str:
    """The common start of the names of the runs, otherwise their recipe; for one run its name."""
    if len(members) == 1:
        return members[0].name
    shared = common_start([run.name for run in members]).rstrip("-_./ ")
    shared = shared.removesuffix("seed").rstrip("-_./ ")
    first = members[0]
    return shared or (first.plan.recipe if first.plan else first.name)


def common_start(names: Sequence[str]) -> str:
    """The letters that all ``names`` begin with."""
    alike = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in alike)


def differ_by_seed_alone(one: Run, other: Run, requests: Mapping[int, Mapping[str, Any]]) -> bool:
    """Whether all artifacts that two runs share have the same settings and outside inputs, but the seeds differ.

    Runs with the same seeds are copies or come from different versions, so their spread would be meaningless.
    ``requests`` maps each run's identity to its files and their `request`.
    """
    mine, theirs = requests[id(one)], requests[id(other)]
    both = mine.keys() & theirs.keys()
    return (
        bool(both)
        and one.seeds != other.seeds
        and all(mine[file] == theirs[file] for file in both)
        and same_evaluation(one.measured, other.measured)
    )


def request(node: Node) -> tuple[Any, ...]:
    """Stage, settings, input roles and digests of outside inputs of an artifact, without its seed."""
    inputs = node.header.inputs
    outside = {role: inputs[role].digest for role in OUTSIDE if role in inputs}
    return node.header.stage, node.settings.result_settings(), sorted(inputs), outside


def same_evaluation(one: Iterable[Measured], other: Iterable[Measured]) -> bool:
    splits = {entry.split for entry in [*one, *other]}
    return len(splits) < 2
