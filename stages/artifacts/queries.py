"""The queries artifact: what is asked, in rank order.

Attributes: unit, answer (class, mask), round, oracle_privilege, shortfall, statistics of the choice.
`/queries/{image,y,x,score}` (Q,); `image` indexes `/images/id`; row number = rank. y and x are -1 for whole images.
"""

from pathlib import Path

from stages.artifacts.hdf5 import Artifact
from stages.artifacts.images_table import read_images


class Queries(Artifact):
    kind = "queries"

    def __init__(self, path: Path | str):
        super().__init__(path)
        self.ids, self.sizes = read_images(self)
        self.image, self.y, self.x = (self.read(f"queries/{name}") for name in ("image", "y", "x"))

    def __len__(self) -> int:
        return len(self.image)
