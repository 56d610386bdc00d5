"""Provenance: the inputs recorded in headers, compared with the files there now."""

import hashlib
import os
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from stages.artifacts.header import InputRef
from stages.artifacts.opening import read_any_header
from stages.reporting.report.collect import Node, Run
from stages.runtime.errors import BadInput

FRESH, STALE, GONE = "fresh", "stale", "gone"
SHORT = 12  # characters shown of a digest


@dataclass(frozen=True)
class Link:
    """An input of an artifact: its role, its path from the run's folder, and whether it is unchanged."""

    role: str
    file: str
    digest: str
    state: str

    @property
    def short(self) -> str:
        return self.digest[:SHORT]


@dataclass(frozen=True)
class Origin:
    """Provenance of an artifact; `settings` are those that differ from the defaults of its stage."""

    node: Node
    links: list[Link]
    settings: dict[str, Any]

    @property
    def short(self) -> str:
        return self.node.digest[:SHORT]


@dataclass(frozen=True)
class ChainStep:
    """A step in a chain: its kind, a short description, and its artifact or link.

    `follows`: whether it was made from the previous step.
    """

    what: str
    told: str
    file: str
    digest: str
    state: str = FRESH
    follows: bool = True

    @property
    def short(self) -> str:
        return self.digest[:SHORT]


def origins(run: Run) -> list[Origin]:
    return [
        Origin(node, [link(run, node, role, ref) for role, ref in node.header.inputs.items()], own_settings(node))
        for node in run.nodes
    ]


def own_settings(node: Node) -> dict[str, Any]:
    """The recorded settings that apply and differ from their defaults."""
    settings = node.settings
    known = settings.defaults()
    return {name: value for name, value in settings.result_settings().items() if known[name] != value}


def link(run: Run, node: Node, role: str, ref: InputRef) -> Link:
    """An input, compared with the file at its path now, as in `alseg verify`."""
    found = current_digest(node.source(ref).resolve())
    state = GONE if found is None else FRESH if found == ref.digest else STALE
    return Link(role, from_run(run, node, ref), ref.digest, state)


def from_run(run: Run, node: Node, ref: InputRef) -> str:
    """The path of an input relative to the run's folder, which is the same on each machine."""
    return Path(os.path.normpath(Path(node.file).parent / ref.file)).as_posix()


@lru_cache(maxsize=1024)
def current_digest(path: Path) -> str | None:
    """The digest of an artifact, or of the bytes of another file (weights); None if the file is missing."""
    if not path.is_file():
        return None
    try:
        return read_any_header(path).digest
    except BadInput:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def chain(run: Run, queries: Node) -> list[ChainStep]:
    """Labels, model and scores behind these queries, the queries, and the artifacts made from them."""
    back: list[ChainStep] = []
    place: Node | None = queries
    for role in ("scores", "model", "labels"):
        if place is None or role not in place.header.inputs:
            break
        ref = place.header.inputs[role]
        back.insert(0, step_back(run, place, role, ref))
        place = run.by_digest.get(ref.digest)
    steps = [*back, step(queries), *ahead(run, queries)]
    return [steps[0], *(following(run, one, other) for one, other in pairwise(steps))]


def following(run: Run, one: ChainStep, other: ChainStep) -> ChainStep:
    made = run.by_digest.get(other.digest)
    return replace(other, follows=made is None or one.digest in {ref.digest for ref in made.header.inputs.values()})


def step_back(run: Run, node: Node, role: str, ref: InputRef) -> ChainStep:
    found = link(run, node, role, ref)
    made = run.by_digest.get(ref.digest)
    if made is None:
        return ChainStep(role, "", found.file, ref.digest, found.state)
    return ChainStep(made.header.kind, in_words(made), made.file, made.digest, found.state)


def ahead(run: Run, queries: Node) -> list[ChainStep]:
    """Answers, labels, models and evaluations made from ``queries``, each from the previous one."""
    found: list[ChainStep] = []
    last: list[ChainStep] = []
    made = {queries.digest}
    for kind, roles in (
        ("annotations", ("queries",)),
        ("model", ("labels",)),
        ("pseudo_labels", ("annotations", "model")),
        ("model", ("labels",)),
        ("evaluation", ("model",)),
    ):
        for node in run.of_kind(kind):
            inputs = [ref for role, ref in node.header.inputs.items() if role.rstrip("0123456789") in roles]
            known = bool(inputs) and all(ref.digest in made for ref in inputs)
            if known and node.digest not in made:
                (last if kind == "evaluation" else found).append(step(node))
        made |= {other.digest for other in found}
    for evaluation in last:  # each after its model
        models = {ref.digest for ref in run.by_digest[evaluation.digest].header.inputs.values()}
        place = max((number for number, other in enumerate(found) if other.digest in models), default=len(found))
        found.insert(place + 1, evaluation)
    return found


def step(node: Node) -> ChainStep:
    return ChainStep(node.header.kind, in_words(node), node.file, node.digest)


def in_words(node: Node) -> str:
    """A short description of an artifact."""
    attributes, counts, settings = node.header.attributes, node.header.counts, node.header.settings
    match node.header.kind:
        case "scores":
            return str(attributes.get("measure", ""))
        case "queries":
            number = counts.get("queries", "")
            return f"{number} {attributes.get('unit', '')}s, rule {settings.get('rule', '')}"
        case "annotations":
            return f"{counts.get('answers', '')} answers so far"
        case "model":
            return f"{settings.get('architecture', '')}, {counts.get('epochs', '')} epochs"
        case "pseudo_labels":
            return str(attributes.get("method", "sieve"))
        case "evaluation":
            best = counts.get("best_miou")
            return f"{attributes.get('split', '')}" + ("" if best is None else f", best {100 * best:.1f} %")
        case _:
            return ""
