"""Queries as people see them: the image, what is marked in it, and the classes that an answer may name."""

from functools import cache, lru_cache
from typing import Any

import numpy as np

from stages.answering.order import asking_order
from stages.artifacts.dataset import Dataset
from stages.artifacts.images_table import rows_by_image
from stages.artifacts.queries import Queries
from stages.artifacts.superpixels import BOX, Superpixels
from stages.datasets.encode import FAST, png_bytes
from stages.pixels.grids import Size, read_place
from stages.pixels.runs import Areas, areas_of, joined
from stages.runtime.errors import BadInput

TEXTS = {
    "class": "Which class is the marked pixel?",
    "dominant": "Which class covers most of the region?",
    "class-set": "Which classes are in the region?",
    "image-class": "Which class is the image?",
    "image-classes": "Which classes are in the image?",
    "precise": "Label each pixel of the region.",
    "mask": "Label each pixel of the image.",
}
SETS = ("class-set", "image-classes")
EXACT = ("precise", "mask")  # answers that label each pixel
KEPT_IMAGES = 6


class Questions:
    """The queries of one file with all that is needed to show them; BadInput if there are none."""

    def __init__(self, data: Dataset, queries: Queries, regions: Superpixels | None):
        if not len(queries):
            raise BadInput(f"{queries.path} contains no queries. Select with a larger --budget.")
        self.data, self.queries, self.regions = data, queries, regions
        self.rows = rows_by_image(queries.image, queries.ids)
        self.boxes = np.stack([queries.y, queries.x, queries.y, queries.x], 1)
        if regions is not None:
            corners = (regions.read(f"regions/{name}")[queries.region] for name in BOX)
            self.boxes = np.stack(list(corners), 1)
        middle = self.boxes[:, :2] + self.boxes[:, 2:]
        self.order = asking_order(self.rows, middle[:, 0], middle[:, 1])
        self.areas = cache(self.read_areas)  # runs of the queried pixels, as the ledger stores them
        self.middle = cache(self.find_middle)
        self.picture = lru_cache(KEPT_IMAGES)(self.encode_picture)

    @property
    def classes(self) -> list[str]:
        """The classes that answers may name."""
        return self.data.image_level_classes if self.queries.answer == "image-class" else self.data.classes

    @property
    def colours(self) -> list[list[int] | None]:
        """Red, green and blue of each class; classes of images have no colours."""
        return self.data.palette.tolist() if self.classes == self.data.classes else [None] * len(self.classes)

    @property
    def of_sets(self) -> bool:
        """Whether an answer names all classes present instead of one."""
        return self.queries.answer in SETS

    def image(self, query: int) -> str:
        return self.queries.ids[self.queries.image[query]]

    def place(self, query: int) -> dict[str, Any]:
        """What identifies a query in addition to its number; its answer must repeat it."""
        queries = self.queries
        region = int(queries.region[query]) if self.regions is not None else -1
        return {"image": self.image(query), "y": int(queries.y[query]), "x": int(queries.x[query]), "region": region}

    def shown(self, query: int) -> dict[str, Any]:
        """The query for the page.

        ``size`` and ``grid`` are (height, width) of the image and of the grid that y and x are on. ``pixel`` is the
        (y, x) in the image of a queried pixel of the grid. ``runs`` are the (start, length) of a region's pixels over
        the flat grid, ``box`` is its bounding box (y0, x0, y1, x1), inclusive.
        """
        image, place = self.image(query), self.place(query)
        size, grid = self.data.sizes[image], self.queries.sizes[image]
        question: dict[str, Any] = {"query": query, **place, "size": size, "grid": grid}
        if self.regions is not None:
            area = self.area(query)
            question |= {
                "runs": np.stack([area.start, area.length], 1).tolist(),
                "box": self.boxes[query].tolist(),
            }
        elif self.queries.unit == "pixel":
            question["pixel"] = [read_place(place["y"], grid[0], size[0]), read_place(place["x"], grid[1], size[1])]
        return question

    def area(self, query: int) -> Areas:
        """The queried pixels of one query on the grid."""
        image = self.image(query)
        return self.areas(image).taken(np.flatnonzero(self.rows[image] == query))

    def find_middle(self, query: int) -> tuple[float, float] | None:
        """A point (y, x) in the image that lies in the queried pixel or region; None for whole images."""
        if self.queries.unit == "image":
            return None
        image = self.image(query)
        (height, width), grid = self.data.sizes[image], self.queries.sizes[image]
        area = self.area(query)
        run = len(area.start) // 2
        y, x = divmod(int(area.start[run]) + int(area.length[run]) // 2, grid[1])
        return (y + 0.5) * height / grid[0], (x + 0.5) * width / grid[1]

    def painted_size(self, query: int) -> Size:
        """Height and width in which exact labels of a query are painted: those of the grid for regions."""
        image = self.image(query)
        return self.data.sizes[image] if self.regions is None else self.queries.sizes[image]

    def read_areas(self, image: str) -> Areas:
        """The queried pixels of an image on the grid, one area per query in the order of ``rows``."""
        rows, (height, width) = self.rows[image], self.queries.sizes[image]
        if self.regions is not None:
            wanted = self.queries.region[rows] - np.int32(self.regions.rows[image].start)
            return areas_of(self.regions.labels(image), wanted)
        whole = self.queries.unit == "image"
        start = (
            np.zeros(len(rows), np.int32) if whole else self.queries.y[rows] * np.int32(width) + self.queries.x[rows]
        )
        length = np.full(len(rows), height * width if whole else 1, np.int32)
        return Areas(np.arange(len(rows) + 1), start, length)

    def every_area(self) -> Areas:
        """The queried pixels of all queries, in their order."""
        place = np.argsort(np.concatenate(list(self.rows.values())))  # of each query among those sorted by image
        return joined([self.areas(image) for image in self.rows]).taken(place)

    def encode_picture(self, image: str) -> bytes:
        """The image as PNG, lightly compressed: for a page that is usually on the same machine, speed matters more."""
        return png_bytes(self.data.rgb(image), level=FAST)
