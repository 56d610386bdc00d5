"""Why something is queried: the optional column `purpose` of queries and of the ledger, absent if all are 0.

0 for its score; 1 control, drawn at random from the pool; 2 again, answered before; 3 gold, with a known answer.
"""

import numpy as np

from stages.artifacts.hdf5 import Artifact, Writer
from stages.artifacts.structure import Array

PURPOSES = ("score", "control", "again", "gold")
CONTROL, AGAIN, GOLD = (PURPOSES.index(name) for name in ("control", "again", "gold"))


def purpose_column(path: str, extent: str) -> Array:
    """What a kind holds at ``path``, the column with its ``extent`` of rows."""
    return Array(path, ("u1",), (extent,), below=len(PURPOSES), optional=True)


def write_purpose(writer: Writer, path: str, purpose: np.ndarray) -> None:
    """Stores ``purpose`` (n,) unless all are 0, so that files without the column keep their digest."""
    if purpose.any():
        writer.array(path, purpose.astype(np.uint8))


def read_purpose(artifact: Artifact, path: str, count: int) -> np.ndarray:
    """(count,) u8."""
    return artifact.read(path) if path in artifact else np.zeros(count, dtype=np.uint8)


def purpose_counts(purpose: np.ndarray) -> dict[str, int]:
    """How many have each purpose but their score, without zeros."""
    numbers = np.bincount(purpose, minlength=len(PURPOSES)).tolist()
    return {name: number for name, number in zip(PURPOSES[1:], numbers[1:], strict=True) if number}
