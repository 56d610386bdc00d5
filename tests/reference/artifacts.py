"""docs/reference/artifacts.md."""

import inspect
import sys

from stages.artifacts.header import SCHEMA_VERSION
from stages.artifacts.model import Model
from stages.artifacts.opening import KINDS
from stages.registry import STAGES
from tests.reference.markdown import codes, page, points, sentences, table

CLASSES: dict[str, type] = {**KINDS, Model.kind: Model}

INTRODUCTION = f"""One HDF5 file per artifact, readable with h5py, `h5ls` and HDFView and nothing else; models are
safetensors. Schema version: {SCHEMA_VERSION}; a reader refuses files of a newer major version.

Shapes: N images, R regions, Q queries, A answers, C classes, K clusters, D features, M models, V vertices."""

HEADER = """Every file has these root attributes (a model: the metadata entry `alseg`): `alseg_kind`, `schema_version`,
`stage`, `settings` (JSON), `inputs` (JSON: role, file, digest), `digest`, `seed`, `versions` (JSON), `created`,
`counts`, and the attributes of its kind. What they promise: [promises](../explanation/promises.md)."""


def artifacts_page() -> str:
    overview = table(("kind", "written by", "read by"), map(row, CLASSES))
    return page(["# Artifacts", INTRODUCTION, overview, HEADER, *map(section, CLASSES)])


def row(kind: str) -> tuple[str, str, str]:
    writers = [stage.name for stage in STAGES.values() if stage.writes == kind]
    readers = [name for name, stage in STAGES.items() if any(kind in each.kind.split("|") for each in stage.inputs)]
    others = len(STAGES) - len(writers)
    return f"[{kind}](#{kind})", codes(writers), "all other stages" if len(readers) == others else codes(readers)


def section(kind: str) -> str:
    """The docstring of the module that defines the kind: its first line, then a point per sentence."""
    first, _, rest = (inspect.getdoc(sys.modules[CLASSES[kind].__module__]) or "").partition("\n\n")
    return page([f"## {kind}", " ".join(first.split()), points(sentences(rest))])
