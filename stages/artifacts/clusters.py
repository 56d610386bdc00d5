"""The clusters artifact: each region of a superpixels file in one of K clusters.

`/regions/cluster` (R,) u8, 0..K-1, in the order of the superpixels file named among the inputs. `/centroids` (K,D) f32
(not for random clusters). `/features` (R,D) f16 if they were kept. `/images/{id,height,width}`. Attributes: method,
clusters (K), encoder ("none" for random clusters), split, oracle_privilege (that of the superpixels).
"""

from functools import cached_property
from pathlib import Path

import numpy as np

from stages.artifacts.hdf5 import Artifact
from stages.artifacts.images_table import IMAGES, read_images
from stages.artifacts.structure import Array, Attribute


class Clusters(Artifact):
    """Clusters of regions, open for reading; ``ids`` are sorted."""

    kind = "clusters"
    holds = (
        Attribute("method"),
        Attribute("clusters", int, extent="K"),
        Attribute("encoder"),
        Attribute("split"),
        Attribute("oracle_privilege"),
        *IMAGES,
        Array("regions/cluster", ("u1",), ("R",), below="K"),
        Array("centroids", ("f4",), ("K", "D"), optional=True),
        Array("features", ("f2",), ("R", "D"), nan=True, infinite=True, optional=True),
    )

    def __init__(self, path: Path | str):
        super().__init__(path)
        self.ids, self.sizes = read_images(self)

    @property
    def method(self) -> str:
        return self.attributes["method"]

    @property
    def number(self) -> int:
        """Number of clusters, including empty ones."""
        return self.attributes["clusters"]

    @property
    def has_features(self) -> bool:
        return "features" in self

    @cached_property
    def of_regions(self) -> np.ndarray:
        """(R,) u8 cluster by global region index."""
        return self.read("regions/cluster")

    def features(self) -> np.ndarray:
        """(R,D) f16 features by global region index; requires ``has_features``."""
        return self.read("features")
