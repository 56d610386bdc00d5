"""The queries artifact: the units to answer, in rank order.

Attributes: unit (pixel, region, image), answer (class, dominant, class-set, precise, mask, image-class,
image-classes), round, oracle_privilege. `/queries/{image,y,x,region,cluster,score}` (Q,); the row number is the rank.
`image` indexes `/images/id`. `y` and `x` are -1 unless the unit is pixel. `region` is the global index of the queried
region, or of the one that the pixel was chosen in, in the superpixels named among the inputs; otherwise -1. `cluster`
is the cluster of that region if the scores have clusters; otherwise -1. `/queries/purpose` (Q,) u8 if it is not 0
throughout: 0 for its score, 1 drawn at random (control), 2 answered before (again), 3 with a known answer (gold).
`/images/{id,height,width}`.
"""

from pathlib import Path

import numpy as np

from stages.artifacts.hdf5 import Artifact, require_made_from
from stages.artifacts.images_table import IMAGES, read_images, require_inside
from stages.artifacts.purposes import purpose_column, read_purpose
from stages.artifacts.structure import Array, Attribute
from stages.runtime.errors import BadInput

ANSWERS = ("class", "dominant", "class-set", "precise", "mask", "image-class", "image-classes")
COORDINATES = ("image", "y", "x", "region", "cluster")


class Queries(Artifact):
    kind = "queries"
    holds = (
        Attribute("unit", choices=("pixel", "region", "image")),
        Attribute("answer", choices=ANSWERS),
        Attribute("round", int, extent="round"),
        Attribute("measure", optional=True),
        Attribute("oracle_privilege"),
        *IMAGES,
        Array("queries/image", ("i",), ("Q",), low=0, below="N"),
        *(Array(f"queries/{name}", ("i",), ("Q",), low=-1) for name in ("y", "x", "region", "cluster")),
        Array("queries/score", ("f",), ("Q",), infinite=True),
        purpose_column("queries/purpose", "Q"),
    )

    def __init__(self, path: Path | str):
        super().__init__(path)
        self.ids, self.sizes = read_images(self)
        self.image, self.y, self.x, self.region, self.cluster = (self.read(f"queries/{name}") for name in COORDINATES)
        self.purpose = read_purpose(self, "queries/purpose", len(self.image))
        require_inside(self, "queries", self.image, self.y, self.x)
        self.require_units()
        self.extents["R"] = int(self.region.max(initial=-1)) + 1

    def require_units(self) -> None:
        """BadInput unless each query names one unit, which no other query names."""
        if self.unit == "pixel":
            named, names = self.y >= 0, [self.image, self.y, self.x]
        elif self.unit == "region":
            named, names = self.region >= 0, [self.region]
        else:
            named, names = self.y < 0, [self.image]
        if not named.all():
            raise self.invalid("queries", f"does not name a {self.unit} in row {int((~named).argmax())}")
        order = np.lexsort(names)
        if len(self) and np.all([name[order][1:] == name[order][:-1] for name in names], axis=0).any():
            raise self.invalid("queries", f"contains the same {self.unit} twice")

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
