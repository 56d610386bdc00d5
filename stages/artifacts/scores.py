"""The scores artifact; higher means ask sooner.

Attributes: unit (pixel, image), measure. Unit pixel: `/scores/<id>` (H,W) f32 or f16. Unit image: `/images/score` (N,).
`/images/{id,height,width}` in both.
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
