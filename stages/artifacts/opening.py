"""Opening an artifact of any kind by what its file says it is."""

from pathlib import Path

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.evaluation import Evaluation
from stages.artifacts.hdf5 import Artifact
from stages.artifacts.header import Header
from stages.artifacts.model import Model
from stages.artifacts.queries import Queries
from stages.artifacts.scores import Scores
from stages.errors import BadInput

KINDS: dict[str, type[Artifact]] = {kind.kind: kind for kind in (Dataset, Scores, Queries, Annotations, Evaluation)}
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(8) == HDF5_SIGNATURE


def is_artifact(path: Path) -> bool:
    """Whether the file looks like one of ours, whole or damaged: HDF5, or safetensors by name."""
    return path.suffix == ".safetensors" or is_hdf5(path)


def open_any(path: Path) -> Artifact | Model:
    """The artifact in ``path``, whatever its kind; BadInput when it is none."""
    if not path.is_file():
        raise BadInput(f"There is no file {path}.")
    if not is_hdf5(path):
        if path.suffix == ".safetensors":
            return Model(path)
        raise BadInput(f"{path} is neither HDF5 nor a model; give a file written by an alseg stage.")
    with Artifact(path) as artifact:
        kind = artifact.header.kind
    if kind not in KINDS:
        raise BadInput(f"{path} holds {kind!r}, a kind this alseg does not know; update alseg.")
    return KINDS[kind](path)


def read_any_header(path: Path) -> Header:
    """The header of the artifact in ``path``."""
    if path.is_file() and not is_hdf5(path):
        return Model(path).header
    with Artifact(path) as artifact:
        return artifact.header
