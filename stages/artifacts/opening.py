"""Opens an artifact of any kind, as recorded in its file."""

from pathlib import Path
from typing import TypeVar

from stages.artifacts.annotations import Annotations
from stages.artifacts.clusters import Clusters
from stages.artifacts.dataset import Dataset
from stages.artifacts.evaluation import Evaluation
from stages.artifacts.hdf5 import Artifact, require_made_from
from stages.artifacts.header import Header
from stages.artifacts.images import ImageFile
from stages.artifacts.model import Model
from stages.artifacts.pseudo_labels import PseudoLabels
from stages.artifacts.queries import Queries
from stages.artifacts.scores import Scores
from stages.artifacts.superpixels import Superpixels
from stages.runtime.errors import BadInput

KINDS: dict[str, type[Artifact]] = {
    kind.kind: kind
    for kind in (Dataset, ImageFile, Superpixels, Clusters, Scores, Queries, Annotations, PseudoLabels, Evaluation)
}
Kind = TypeVar("Kind", bound=Artifact | Model)
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(8) == HDF5_SIGNATURE


def is_artifact(path: Path) -> bool:
    """Whether the file looks like an artifact, damaged or not: HDF5 content, or a name ending in .safetensors."""
    return path.suffix == ".safetensors" or is_hdf5(path)


def is_model(path: Path) -> bool:
    """Whether the file is a model and not HDF5; BadInput if it is neither."""
    if is_hdf5(path):
        return False
    if path.suffix != ".safetensors":
        raise BadInput(f"{path} is neither HDF5 nor a model. Pass a file written by alseg.")
    return True


def open_any(path: Path) -> Artifact | Model:
    """The artifact in ``path``, whatever its kind; BadInput if the file is not an artifact."""
    if not path.is_file():
        raise BadInput(f"There is no file {path}.")
    if is_model(path):
        return Model(path)
    with Artifact(path) as artifact:
        kind = artifact.header.kind
    if kind not in KINDS:
        raise BadInput(f"{path} holds {kind!r}, an unknown kind. Update alseg.")
    return KINDS[kind](path)


def read_any_header(path: Path) -> Header:
    """The header of the artifact in ``path``."""
    if path.is_file() and is_model(path):
        return Model(path).header
    with Artifact(path) as artifact:
        return artifact.header


def open_input(artifact: Artifact | Model, role: str, kind: type[Kind]) -> Kind:
    """The input of ``artifact`` recorded in its header as ``role``, opened as ``kind`` from its recorded path.

    BadInput if there is no such input, or if that file is missing or its content has changed.
    """
    recorded = artifact.header.inputs.get(role)
    if recorded is None:
        raise BadInput(f"{artifact.path} names no {role} among its inputs. Pass the {artifact.header.kind} of a stage.")
    path = recorded.path(artifact.path)
    if not path.is_file():
        raise BadInput(
            f"{artifact.path} was made from the {role} {path}, which no longer exists. Restore or rebuild it."
        )
    found = kind(path)
    require_made_from(artifact, role, found)
    return found
