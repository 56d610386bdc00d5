"""The scores artifact; higher means ask sooner.

Attributes: unit (pixel, region, image), measure. Unit pixel: `/scores/<id>` (H,W) f32 or f16. Unit image:
`/images/score` (N,). Unit region: `/regions/{score,uncertainty,predicted,size}` (R,) in the order of the superpixels
file named among the inputs, `/histogram/{offsets,class,pixels,score}` (CSR over regions: pixels and summed measure per
predicted class, from which any balance follows without the network), and
`/classes/{share,weight}` (C,) of the class balance; random scores have only `score` and `size`.
`/images/{id,height,width}` in all.
"""

from pathlib import Path

import numpy as np

from stages.artifacts.hdf5 import Artifact
from stages.artifacts.images_table import read_images


class Scores(Artifact):
    kind = "scores"

    def __init__(self, path: Path | str):
        super().__init__(path)
        stored, self.sizes = read_images(self)
        self.order = sorted(range(len(stored)), key=stored.__getitem__)
        self.ids = [stored[row] for row in self.order]  # sorted: no choice may depend on the order in the file

    @property
    def unit(self) -> str:
        return self.attributes["unit"]

    def map(self, image: str) -> np.ndarray:
        """(H,W) f32 score map of one image (unit pixel)."""
        return self.read(f"scores/{image}").astype(np.float32)

    def image_scores(self) -> np.ndarray:
        """(N,) f64 in the order of ``ids`` (unit image)."""
        return self.read("images/score")[self.order]

    def region_scores(self) -> np.ndarray:
        """(R,) f32 by global region index (unit region)."""
        return self.read("regions/score")
