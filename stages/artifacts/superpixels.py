"""The superpixels artifact: each image of a split cut into regions.

`/labels/<id>` (H,W) i32, ids 0..K-1 without gaps, -1 = no region (void, oracle regions only).
`/regions/{image,label,size,y0,x0,y1,x1}` (R,): one row per region, images in order, boxes inclusive. The global index
of a region, its row here, is `first_region[image] + label`. `/images/{id,height,width,first_region,num_regions}` (N,).
`/adjacency/{offsets,neighbours}`: CSR over the R regions, neighbours as global indices, 4-neighbourhood of pixels.
Merged regions (method adaptive) also have `/regions/root` (R,), the base region that each grew from, and
`/base/region` (base R,), the merged region of each base region. Regions of other programs (method imported) also have
`/regions/source` (R,), the number that each has there, ascending within an image; superpixels of the rest come last.
Attributes: method, split, oracle_privilege.
"""

from functools import cached_property
from pathlib import Path

import numpy as np

from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Artifact, require_made_from
from stages.artifacts.images_table import IMAGES, read_images
from stages.artifacts.structure import Array, Attribute, Extents
from stages.runtime.errors import BadInput

BOX = ("y0", "x0", "y1", "x1")  # outermost pixels of a region
TABLE = ("size", *BOX)


class Superpixels(Artifact):
    """Regions, open for reading; ``ids`` are sorted."""

    kind = "superpixels"
    holds = (
        Attribute("method"),
        Attribute("split"),
        Attribute("oracle_privilege"),
        *IMAGES,
        Array("images/first_region", ("i",), ("N",), low=0),
        Array("images/num_regions", ("i",), ("N",), low=0),
        Array("labels/*", ("i",), ("H", "W"), low=-1, below="regions"),
        Array("regions/image", ("i",), ("R",), low=0, below="N"),
        Array("regions/label", ("i",), ("R",), low=0),
        Array("regions/size", ("i",), ("R",), low=1),
        *(
            Array(f"regions/{name}", ("i",), ("R",), low=0, below=name[0].replace("y", "H").replace("x", "W"))
            for name in BOX
        ),
        Array("adjacency/neighbours", ("i",), ("E",), low=0, below="R"),
        Array("adjacency/offsets", ("i",), ("R+1",), offsets="E"),
        Array("regions/root", ("i",), ("R",), low=0, below="B", optional=True),
        Array("regions/source", ("i",), ("R",), low=0, optional=True),
        Array("base/region", ("i",), ("B",), low=-1, below="R", optional=True),
    )

    def __init__(self, path: Path | str):
        super().__init__(path)
        self.ids, self.sizes = read_images(self)
        first, number = self.read("images/first_region"), self.read("images/num_regions")
        if (first != np.cumsum(number) - number).any() or number.sum() != self.extents["R"]:
            raise self.invalid("images/first_region", "does not count the regions of the images before")
        self.rows = {
            image: slice(int(start), int(start + count))
            for image, start, count in zip(self.ids, first, number, strict=True)
        }

    def image_extents(self, image: str) -> Extents:
        return super().image_extents(image) | {"regions": self.number(image)}

    @property
    def method(self) -> str:
        return self.attributes["method"]

    @property
    def count(self) -> int:
        """Regions of all images together."""
        return self.rows[self.ids[-1]].stop if self.ids else 0

    @cached_property
    def region_sizes(self) -> np.ndarray:
        """(R,) i32 pixels per region."""
        return self.read("regions/size")

    @cached_property
    def numbers(self) -> np.ndarray:
        """(R,) i32 number of each region in its image: that of the program it was imported from, or our own."""
        return self.read("regions/source" if "regions/source" in self else "regions/label")

    @cached_property
    def first_regions(self) -> np.ndarray:
        """(N,) i64 global index of each image's first region."""
        return self.read("images/first_region")

    def number(self, image: str) -> int:
        """Regions of one image."""
        return self.rows[image].stop - self.rows[image].start

    def labels(self, image: str) -> np.ndarray:
        """(H,W) i32 region ids of one image, -1 = no region."""
        return self.read(f"labels/{image}")

    def adjacency(self, image: str) -> tuple[np.ndarray, np.ndarray]:
        """CSR over the K regions of one image: offsets (K+1,) i64, neighbours (E,) i32 as ids within the image."""
        rows = self.rows[image]
        offsets = self.read("adjacency/offsets", slice(rows.start, rows.stop + 1))
        neighbours = self.read("adjacency/neighbours", slice(int(offsets[0]), int(offsets[-1])))
        if neighbours.min(initial=rows.start) < rows.start or neighbours.max(initial=rows.start) >= max(rows.stop, 1):
            raise self.invalid("adjacency/neighbours", f"leads out of image {image}")
        return offsets - offsets[0], neighbours - np.int32(rows.start)

    def images_of(self, regions: np.ndarray) -> np.ndarray:
        """Row in ``ids`` of the image that contains each global region index."""
        return np.searchsorted(self.first_regions, regions, side="right") - 1

    def require_images(self, ids: list[str], split: str) -> None:
        """BadInput unless these are the regions of exactly the images ``ids`` of ``split``."""
        if self.ids != sorted(ids):
            raise BadInput(
                f"{self.path} holds the regions of split {self.attributes['split']!r} ({len(self.ids)} images), but "
                f"split {split!r} has {len(ids)}. Run extract-superpixels with --split {split}."
            )


def regions_of(path: Path | None, data: Dataset, made: Artifact) -> Superpixels | None:
    """The region file in ``path`` that ``made`` (scores or queries) refers to; None if it refers to no regions.

    Raises BadInput if the file is missing, not needed, or not the one that ``made`` was made from.
    """
    if made.attributes["unit"] != "region":
        if path is not None:
            raise BadInput(f"{made.path} refers to {made.attributes['unit']}s, not regions. Omit --superpixels.")
        return None
    recorded = made.header.inputs["superpixels"]
    if path is None:
        raise BadInput(f"{made.path} refers to regions. Pass --superpixels {recorded.file}.")
    regions = Superpixels(path)
    require_made_from(regions, "dataset", data)
    require_made_from(made, "superpixels", regions)
    if made.extents.get("R", 0) > regions.count:  # of pruned scores no array tells how many there were
        raise made.invalid("a region", f"has index {made.extents['R'] - 1}, but {path} has {regions.count} regions")
    return regions
