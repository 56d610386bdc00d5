"""The pseudo_labels artifact: dense labels derived from answers and a model or the features of a network.

`/labels/<id>` (H,W) u8, 255 = none, for each image with an answer; methods gated and neighbours also label images
without any. `/images/{id,height,width,labelled_pixels}` (N,). `/regions/{answer,pixels,kept,threshold}`, not of these
two methods: for each answer that names a class of a region its row in the ledger, its pixels, how many of them are
labelled, and the lowest confidence that is kept (sieve). Method prototypes also has `/prototypes/{answer,class,y,x}`:
the pixel that represents each class of each answer. Method gated also has `/images/{score,accepted}` (N,): the
discriminator's decision on a prediction. Attributes: classes, method, sieve.
"""

from functools import cached_property
from pathlib import Path

import numpy as np

from stages.artifacts.hdf5 import Artifact
from stages.artifacts.images_table import IMAGES, read_images
from stages.artifacts.structure import Array, Attribute
from stages.pixels.void import VOID


class PseudoLabels(Artifact):
    """Labels per image, open for reading; `train` reads them like a ledger."""

    kind = "pseudo_labels"
    holds = (
        Attribute("classes", list, extent="C"),
        Attribute("method", optional=True),
        Attribute("sieve", optional=True),
        *IMAGES,
        Array("images/labelled_pixels", ("i",), ("N",), low=0),
        Array("images/score", ("f",), ("N",), nan=True, optional=True),
        Array("images/accepted", ("u1",), ("N",), below=2, optional=True),
        Array("labels/*", ("u1",), ("H", "W"), below="C+1", void=True),
        *(Array(f"regions/{name}", ("i",), ("A",), low=0, optional=True) for name in ("answer", "pixels", "kept")),
        Array("regions/threshold", ("f",), ("A",), nan=True, infinite=True, optional=True),
        *(Array(f"prototypes/{name}", ("i",), ("P",), low=0, optional=True) for name in ("answer", "y", "x")),
        Array("prototypes/class", ("i", "u"), ("P",), low=0, below="C+1", optional=True),
    )

    def __init__(self, path: Path | str):
        super().__init__(path)
        self.ids, self.sizes = read_images(self)

    def label_map(self, image: str, void: int = VOID) -> np.ndarray:
        """(H,W) u8 labels of ``image``, 255 = none; void, stored on disk as class C, becomes ``void``."""
        labels = self.read(f"labels/{image}")
        labels[labels == len(self.attributes["classes"])] = void
        return labels

    def labelled_ids(self, void: int = VOID) -> list[str]:
        """Sorted ids of the images with at least one label."""
        return sorted(image for image, pixels in zip(self.ids, self.labelled_pixels, strict=True) if pixels)

    @cached_property
    def labelled_pixels(self) -> np.ndarray:
        """(N,) i64 labelled pixels per image."""
        return self.read("images/labelled_pixels")

    def cost(self) -> dict[str, float]:
        """Cost of the answers that the labels derive from."""
        return {name: self.header.counts[name] for name in ("answers", "clicks", "seconds")}
