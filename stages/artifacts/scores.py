"""The scores artifact; higher means ask sooner.

Attributes: unit (pixel, region, image), measure. Unit pixel: `/scores/<id>` (H,W) f32 or f16. Unit image:
`/images/score` (N,). Unit region: `/regions/{score,uncertainty,predicted,size}` (R,) in the order of the superpixels
file named among the inputs (`size`: pixels that are still to be asked), also `/regions/{y,x}` of the best pixel where
it was asked for, `/histogram/{offsets,class,pixels,score}` (CSR over regions: pixels and summed measure per
predicted class, from which any balance follows without the network), and
`/classes/{share,weight}` (C,) of the class balance; random scores have only `score`, `size`, `y` and `x`. With
clusters `/regions/cluster` (R,) u8 and `/clusters/{regions,pixels,score,pixel_score}` (K,), `/clusters/class_regions`
(C,K): regions, pixels, summed score of the regions and of their pixels, regions per predicted class.
`/images/{id,height,width}` in all; of a classifier of images also `/images/probability` (N,C) and `/images/features`
(N,D) f16.
"""

from pathlib import Path

import numpy as np

from stages.artifacts.hdf5 import Artifact
from stages.artifacts.images_table import read_images
from stages.runtime.errors import BadInput


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

    @property
    def has_clusters(self) -> bool:
        return "clusters/regions" in self

    @property
    def has_best_pixels(self) -> bool:
        return "regions/y" in self

    def image_features(self) -> np.ndarray:
        """(N,D) f32 in the order of ``ids`` (unit image); BadInput for scores without a classifier."""
        if "images/features" not in self:
            raise BadInput(f"{self.path} holds no features of the images; score with a classifier as --model.")
        return self.read("images/features")[self.order].astype(np.float32)

    def region_scores(self) -> np.ndarray:
        """(R,) f32 by global region index (unit region)."""
        return self.read("regions/score")
