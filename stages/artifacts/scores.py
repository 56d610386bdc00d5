"""The scores artifact: a number per pixel, region or image; higher scores are queried first.

Attributes: unit (pixel, region, image), measure. `/images/{id,height,width}` for every unit. Unit pixel:
`/scores/<id>` (H,W) f32 or f16, -inf where `--keep-share` left one out, with `--keep-classes` `/predicted/<id>` (H,W)
u8, with `--keep-features` `/features/<id>` (D,h,w) f16 of any size. Unit image: `/images/score` (N,); of a classifier
of images also `/images/probability` (N,C) and `/images/features` (N,D) f16. Unit region:
`/regions/{score,uncertainty,predicted,size}` (R,) in the order of the superpixels file named among the inputs; `size`
is the number of unlabelled pixels. With `--best-pixel` also `/regions/{y,x}`, with `--keep-features`
`/regions/features` (R,D) f16. `/histogram/{offsets,class,pixels,score}`: CSR over regions with pixels and summed
measure per predicted class, from which any class balance follows without the network. `/classes/{share,weight}` (C,):
the class balance. Random scores
have only `score`, `size`, `y` and `x`. With clusters `/regions/cluster` (R,) u8,
`/clusters/{regions,pixels,score,pixel_score}` (K,) and `/clusters/class_regions` (C,K): regions, pixels, summed score
of the regions and of their pixels, regions per predicted class.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.artifacts.hdf5 import Artifact
from stages.artifacts.images_table import IMAGES, read_images
from stages.artifacts.structure import Array, Attribute
from stages.pixels.grids import read_place
from stages.runtime.errors import BadInput


class ClusterTables(NamedTuple):
    """What clusters of regions hold over all images (spec madbal.md 5.6); regions without pixels are not counted."""

    class_regions: np.ndarray  # (C,K) i64: regions of cluster k whose predicted class is c
    regions: np.ndarray  # (K,) i64
    pixels: np.ndarray  # (K,) i64, n_k
    score: np.ndarray  # (K,) f64, U_k: sum of the regions' means
    pixel_score: np.ndarray  # (K,) f64: sum of the pixels' scores


class Scores(Artifact):
    kind = "scores"
    holds = (
        Attribute("unit", choices=("pixel", "region", "image")),
        Attribute("measure"),
        Attribute("class_balance", optional=True),
        *IMAGES,
        Array("scores/*", ("f",), ("H", "W"), infinite=True),
        Array("predicted/*", ("u1",), ("H", "W"), optional=True),
        Array("features/*", ("f2",), ("D", "h", "w"), optional=True),
        Array("images/score", ("f",), ("N",), infinite=True, optional=True),
        Array("images/probability", ("f",), ("N", "C"), low=0, optional=True),
        Array("images/features", ("f2",), ("N", "D"), nan=True, infinite=True, optional=True),
        Array("regions/score", ("f",), ("R",), infinite=True, optional=True),
        Array("regions/features", ("f2",), ("R", "D"), optional=True),
        Array("regions/size", ("i",), ("R",), low=0, optional=True),
        Array("regions/uncertainty", ("f",), ("R",), infinite=True, optional=True),
        Array("regions/y", ("i",), ("R",), low=-1, below="H", optional=True),
        Array("regions/x", ("i",), ("R",), low=-1, below="W", optional=True),
        Array("classes/share", ("f",), ("C",), low=0, nan=True, optional=True),
        Array("classes/weight", ("f",), ("C",), nan=True, infinite=True, optional=True),
        Array("regions/predicted", ("u1",), ("R",), below="C", optional=True),
        Array("clusters/class_regions", ("i",), ("C", "K"), low=0, optional=True),
        *(Array(f"clusters/{name}", ("i",), ("K",), low=0, optional=True) for name in ("regions", "pixels")),
        *(Array(f"clusters/{name}", ("f",), ("K",), infinite=True, optional=True) for name in ("score", "pixel_score")),
        Array("regions/cluster", ("u1",), ("R",), below="K", optional=True),
        Array("histogram/class", ("u1",), ("S",), below="C", optional=True),
        Array("histogram/pixels", ("i",), ("S",), low=0, optional=True),
        Array("histogram/score", ("f",), ("S",), infinite=True, optional=True),
        Array("histogram/offsets", ("i",), ("R+1",), offsets="S", optional=True),
    )

    def __init__(self, path: Path | str):
        super().__init__(path)
        stored, self.sizes = read_images(self)
        self.order = sorted(range(len(stored)), key=stored.__getitem__)
        self.ids = [stored[row] for row in self.order]  # sorted, so that no choice depends on the order in the file
        score = f"{self.unit}s/score"
        if self.unit != "pixel" and not self.header.lacks(score) and score not in self:
            raise self.damaged(score)

    @property
    def unit(self) -> str:
        return self.attributes["unit"]

    @property
    def kept(self) -> float:
        """The share of the scores of an image that was stored, its highest; all others are -inf (unit pixel)."""
        return float(self.header.settings.get("keep_share", 1.0))

    def map(self, image: str) -> np.ndarray:
        """(H,W) f32 score map of one image (unit pixel)."""
        return self.read(f"scores/{image}").astype(np.float32)

    def predicted(self, image: str) -> np.ndarray:
        """(H,W) u8 predicted class of each pixel (unit pixel); BadInput for scores without them."""
        if "predicted" not in self:
            raise BadInput(f"{self.path} has no predicted classes. Score with a model and --keep-classes.")
        return self.read(f"predicted/{image}")

    def pixel_features(self, image: str, index: np.ndarray) -> np.ndarray:
        """(n,D) f32 features of the pixels with flat ``index`` (n,) (unit pixel); BadInput for scores without them."""
        if "features" not in self:
            raise BadInput(f"{self.path} has no features of pixels. Score with a model and --keep-features.")
        maps = self.read(f"features/{image}").astype(np.float32)
        height, width = self.sizes[image]
        y, x = np.divmod(index, width)
        return maps[:, read_place(y, height, maps.shape[1]), read_place(x, width, maps.shape[2])].T

    def image_classes(self) -> np.ndarray:
        """(N,) i64 in the order of ``ids``: of the classes predicted in an image that which is in the fewest images.

        Classes of probability 1/2 or more are predicted, and always the most likely one. BadInput for scores without a
        classifier (unit image).
        """
        if "images/probability" not in self:
            raise BadInput(
                f"{self.path} has no predicted classes of images. Score with --unit image and a classifier as --model."
            )
        probability = self.read("images/probability")[self.order]
        predicted = probability >= np.minimum(probability.max(1, keepdims=True), 0.5)
        return np.where(predicted, predicted.sum(0), len(predicted) + 1).argmin(1)

    def image_scores(self) -> np.ndarray:
        """(N,) f64 in the order of ``ids`` (unit image)."""
        return self.read("images/score")[self.order]

    def image_features(self) -> np.ndarray:
        """(N,D) f32 in the order of ``ids`` (unit image); BadInput for scores without a classifier."""
        if "images/features" not in self:
            raise BadInput(
                f"{self.path} has no features of images. Score with --unit image, a classifier as --model and "
                "--keep-features."
            )
        return self.read("images/features")[self.order].astype(np.float32)

    def region_scores(self) -> np.ndarray:
        """(R,) f32 by global region index (unit region)."""
        return self.read("regions/score")

    def region_classes(self) -> np.ndarray:
        """(R,) i64 class predicted for most pixels of each region, -1 for void (unit region).

        BadInput for random scores.
        """
        if "regions/predicted" not in self:
            raise BadInput(f"{self.path} has no predicted classes. Score with a model.")
        found = self.read("regions/predicted").astype(np.int64)
        knows_void = self.header.settings.get("void_output", "drop") != "drop"
        return np.where(found == len(self.read("classes/share")) - 1, -1, found) if knows_void else found

    def classes_in_regions(self) -> np.ndarray | None:
        """(R,) i64 number of classes predicted in each region (unit region); None for random scores."""
        return np.diff(self.read("histogram/offsets")) if "histogram/offsets" in self else None

    def classes_in_images(self) -> np.ndarray | None:
        """(N,) f64 expected number of classes in each image in the order of ``ids``; None without a classifier."""
        return self.read("images/probability")[self.order].sum(1, np.float64) if "images/probability" in self else None

    @property
    def has_region_features(self) -> bool:
        return "regions/features" in self

    def region_features(self) -> np.ndarray:
        """(R,D) f16 by global region index (unit region); requires ``has_region_features``."""
        return self.read("regions/features")

    def pixels_left(self) -> np.ndarray:
        """(R,) i32 pixels of each region that were not queried before scoring (unit region)."""
        return self.read("regions/size")

    @property
    def has_best_pixels(self) -> bool:
        return "regions/y" in self

    def best_pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """(R,) i32 y and x of each region's best pixel; BadInput for scores without them."""
        if not self.has_best_pixels:
            raise BadInput(f"{self.path} has no best pixels of regions. Score with --best-pixel.")
        return self.read("regions/y"), self.read("regions/x")

    @property
    def has_clusters(self) -> bool:
        return "clusters/regions" in self

    def region_clusters(self) -> np.ndarray:
        """(R,) u8 cluster of each region; BadInput for scores without clusters."""
        return self._of_clusters("regions/cluster")

    def cluster_tables(self) -> ClusterTables:
        """BadInput for scores without clusters."""
        return ClusterTables(*(self._of_clusters(f"clusters/{name}") for name in ClusterTables._fields))

    def _of_clusters(self, path: str) -> np.ndarray:
        if not self.has_clusters:
            raise BadInput(f"{self.path} has no clusters. Score with --clusters.")
        return self.read(path)
