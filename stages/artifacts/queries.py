"""The queries artifact: what is asked, in rank order.

Attributes: unit, answer (class, mask), round, oracle_privilege, shortfall, statistics of the choice.
`/queries/{image,y,x,score}` (Q,); `image` indexes `/images/id`; row number = rank. y and x are -1 for whole images.
"""

from pathlib import Path

from stages.artifacts.annotations import Annotations
from stages.artifacts.hdf5 import Artifact, require_made_from
from stages.artifacts.images_table import read_images
from stages.errors import BadInput


class Queries(Artifact):
    kind = "queries"

    def __init__(self, path: Path | str):
        super().__init__(path)
        self.ids, self.sizes = read_images(self)
        self.image, self.y, self.x = (self.read(f"queries/{name}") for name in ("image", "y", "x"))

    def require_ledger(self, before: Annotations | None) -> None:
        """BadInput unless ``before`` is the ledger these queries were chosen against (None: none, round 0)."""
        if (self.header.inputs.get("annotations") is None) != (before is None):
            reason = "were chosen against a ledger" if before is None else "start a new ledger"
            raise BadInput(f"{self.path}: these queries {reason}; give the same --annotations that select was given.")
        if before is not None:
            require_made_from(self, "annotations", before)

    def __len__(self) -> int:
        return len(self.image)
