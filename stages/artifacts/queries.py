"""The queries artifact: the units to answer, in rank order.

Attributes: unit (pixel, region, image), answer (class, dominant, class-set, precise, mask, image-class,
image-classes), round, oracle_privilege. `/queries/{image,y,x,region,cluster,score}` (Q,); the row number is the rank.
`image` indexes `/images/id`. `y` and `x` are -1 unless the unit is pixel. `region` is the global index of the queried
region, or of the one that the pixel was chosen in, in the superpixels named among the inputs; otherwise -1. `cluster`
is the cluster of that region if the scores have clusters; otherwise -1. `/images/{id,height,width}`.
"""

from pathlib import Path

from stages.artifacts.hdf5 import Artifact, require_made_from
from stages.artifacts.images_table import read_images
from stages.runtime.errors import BadInput

COORDINATES = ("image", "y", "x", "region", "cluster")


class Queries(Artifact):
    kind = "queries"

    def __init__(self, path: Path | str):
        super().__init__(path)
        self.ids, self.sizes = read_images(self)
        self.image, self.y, self.x, self.region, self.cluster = (self.read(f"queries/{name}") for name in COORDINATES)

    @property
    def unit(self) -> str:
        return self.attributes["unit"]

    @property
    def answer(self) -> str:
        return self.attributes["answer"]

    @property
    def round(self) -> int:
        return self.attributes["round"]

    def require_ledger(self, before: Artifact | None) -> None:
        """BadInput unless ``before`` is the ledger these queries were chosen against (None: no ledger, round 0)."""
        if (self.header.inputs.get("annotations") is None) != (before is None):
            if before is not None:
                raise BadInput(f"{self.path}: these queries were selected without a ledger. Omit --annotations.")
            raise BadInput(
                f"{self.path}: these queries were selected with a ledger. Pass the --annotations that select was run "
                "with."
            )
        if before is not None:
            require_made_from(self, "annotations", before)

    def __len__(self) -> int:
        return len(self.image)
