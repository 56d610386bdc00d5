"""The dataset artifact: images, masks if there are any, ids, splits, classes.

`/images/<id>` (H,W,B) u8: red, green and blue, unless the description names other bands; not if the images stay in
their files (`stages.artifacts.in_place`) or are in files of their own (`stages.artifacts.images`). `/masks/<id>` (H,W)
u8 with 255 = void. `/polygons/<id>` (V,2) i32 (y,x), for images of a split with polygon files: the pixels with the
vertices of all polygons that people drew inside the image, repeated if vertices coincide. Table
`/index/{id,split,height,width,label}`; label: class of the whole image, -1 = none.
If they were kept, for images outside the pool: `/evaluation_images/<id>` and `/evaluation_masks/<id>`, like images and
masks but at the size to evaluate at, and `/index/{evaluation_height,evaluation_width}`, 0 for the other images.
If the images are tiles of larger files: table `/tiles/{source,y,x,height,width}`, in the order of the index: the file
that each was cut from (a row of `/sources`) and its place and size there, in pixels of that file. Table
`/sources/{id,file,height,width,crs,transform}`: these files, and where they lie on the Earth (crs as WKT; transform
(6,) f64, NaN if unknown: x = a column + b row + c, y = d column + e row + f). Attribute tiles: the size and the overlap
of tiles, as JSON. `/without_data/<id>` (H,W) u8, of tiles that have some: 1 for pixels without data.
Attributes: name, classes, palette, ignore_index, mean, std, licence; if there are any, image_classes (names of the
classes of whole images), ignored (JSON: the values or colours other than 255 that the mask files have for void) and
reading (JSON: how files became images: numbers of bands, levels that became 0 and 255, page, bands to display).
"""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from stages.artifacts.hdf5 import Artifact
from stages.artifacts.images import IMAGE_FILES, INDEX, PIXELS, ImageFile, ImageFiles, read_image_files
from stages.artifacts.in_place import ORIGINALS, Originals, read_originals
from stages.artifacts.structure import Array, Attribute, bands_fault
from stages.artifacts.tiling import TILING, Tiling, read_tiling
from stages.pixels.bands import shown_bands
from stages.pixels.grids import Size, image_on_grid, map_on_grid
from stages.runtime.errors import BadInput
from stages.settings.prepare import RESIZING


class Dataset(ImageFile):
    """A prepared dataset, open for reading."""

    kind = "dataset"
    holds = (
        Attribute("name"),
        Attribute("classes", list, extent="C"),
        Attribute("image_classes", list, optional=True),
        Attribute("licence", optional=True),
        Attribute("mean", tuple, extent="B"),
        Attribute("std", tuple, above=0, extent="B"),
        Attribute("reading", optional=True),
        *INDEX,
        Array("index/split", ("S",), ("N",)),
        Array("index/label", ("i",), ("N",), low=-1, below="L"),
        *PIXELS,
        Array("masks/*", ("u1",), ("H", "W"), below="C", void=True),
        Array("polygons/*", ("i",), ("V", 2)),
        Array("evaluation_masks/*", ("u1",), ("evaluation_H", "evaluation_W"), below="C", void=True),
        *ORIGINALS,
        *IMAGE_FILES,
        *TILING,
        Array("without_data/*", ("u1",), ("H", "W"), below=2),
    )

    def __init__(self, path: Path | str):
        super().__init__(path)
        splits = self.strings("index/split")
        self.splits = dict(zip(self.all_ids, splits, strict=True))
        fault = bands_fault(self.attributes)
        if fault is not None:
            raise self.invalid("attribute mean", fault)
        self.extents["L"] = len(self.image_level_classes)
        self.require_colours()

    def require_colours(self) -> None:
        """BadInput unless each class has a colour."""
        palette = np.array(self.attributes.get("palette", []))
        if palette.shape != (len(self.classes), 3) or palette.min() < 0 or palette.max() > 255:
            raise self.invalid("attribute palette", "does not have a colour (0 to 255) for each class")

    @property
    def classes(self) -> list[str]:
        return self.attributes["classes"]

    @cached_property
    def palette(self) -> np.ndarray:
        """(C,3) u8 colours of the classes."""
        return np.array(self.attributes["palette"], dtype=np.uint8)

    @property
    def ignored(self) -> list[int | tuple[int, int, int]]:
        """The listed values, or colours, that the dataset's mask files have for void beside 255."""
        return [
            tuple(each) if isinstance(each, list) else each for each in json.loads(self.attributes.get("ignored", "[]"))
        ]

    @cached_property
    def tiling(self) -> Tiling | None:
        """Where the images lie in the files that they were cut from; None if they are whole files."""
        return read_tiling(self)

    @cached_property
    def originals(self) -> Originals | None:
        """The files in which the images stay; None if they are stored here."""
        return read_originals(self, self.all_ids, self.reading)

    @cached_property
    def image_files(self) -> ImageFiles | None:
        """The files in which the images are; None if they are stored here, or stay in the files of others."""
        return read_image_files(self, self.all_ids)

    def attached(self) -> list[Artifact]:
        found = self.image_files
        return [] if found is None else [found.file(row) for row in range(len(found.files))]

    def close(self) -> None:
        if "image_files" in vars(self) and self.image_files is not None:
            self.image_files.close()
        super().close()

    @cached_property
    def places(self) -> dict[str, int]:
        """The place of each image in the index."""
        return {image: place for place, image in enumerate(self.all_ids)}

    @property
    def bands(self) -> int:
        """How many bands images have; 3: red, green and blue."""
        return len(self.attributes["mean"])

    @cached_property
    def reading(self) -> dict[str, Any]:
        """How files became images, as JSON values (`stages.images.reading`); empty: as viewers show them."""
        return json.loads(self.attributes.get("reading", "{}"))

    @property
    def image_classes(self) -> list[str]:
        """Names of the image-level classes; empty if the dataset was prepared without them."""
        return self.attributes.get("image_classes", [])

    @property
    def image_level_classes(self) -> list[str]:
        """The classes a whole image may have: the image-level classes, or those of pixels if there are none."""
        return self.image_classes or self.classes

    @cached_property
    def labels(self) -> dict[str, int]:
        """The image-level class of each image that has one."""
        labels = self.read("index/label").tolist()
        return {image: label for image, label in zip(self.all_ids, labels, strict=True) if label >= 0}

    def ids(self, split: str) -> list[str]:
        """Sorted ids of ``split``; BadInput when it is empty."""
        found = sorted(image for image in self.all_ids if self.splits[image] == split)
        if not found:
            known = ", ".join(sorted(set(self.splits.values())))
            raise BadInput(f"{self.path} has no images in split {split!r}; its splits are {known}.")
        return found

    def image(self, image: str, grid: Size | None = None) -> np.ndarray:
        """(H,W,B) u8, RGB unless the dataset has other bands; resized to ``grid`` if given."""
        if self.originals is not None:
            pixels = self.originals.image(image, self.sizes[image])
        else:
            pixels = self.stored(image, "images", self.sizes[image])
        return pixels if grid is None else image_on_grid(pixels, grid)

    def rgb(self, image: str, grid: Size | None = None) -> np.ndarray:
        """(H,W,3) u8 to look at: the bands to display, otherwise the first three, or the first as grey."""
        pixels, shown = self.image(image, grid), self.reading.get("display")
        return shown_bands(pixels, None if shown is None else [self.reading["bands"].index(band) for band in shown])

    def has_masks(self, split: str) -> bool:
        """Whether every image of ``split`` has a mask; False for an empty split."""
        found = [image for image in self.all_ids if self.splits[image] == split]
        return bool(found) and all(f"masks/{image}" in self for image in found)

    def mask(self, image: str, grid: Size | None = None) -> np.ndarray:
        """(H,W) u8 ground truth, 255 = void, read at the pixels of ``grid`` if given.

        BadInput when the image has none.
        """
        if f"masks/{image}" not in self:
            raise BadInput(
                f"{self.path} has no mask for image {image}. Prepare the dataset with masks, or use `alseg annotate`."
            )
        mask = self.read(f"masks/{image}")
        return mask if grid is None else map_on_grid(mask, grid)

    def without_data(self, image: str, grid: Size | None = None) -> np.ndarray | None:
        """(H,W) bool, on ``grid`` if given: pixels of a tile without data; None if all have some."""
        if f"without_data/{image}" not in self:
            return None
        found = self.read(f"without_data/{image}") > 0
        return found if grid is None else map_on_grid(found, grid)

    @property
    def is_resized(self) -> bool:
        """Whether `prepare` was told to resize the images."""
        given = self.header.settings
        return (
            given.get("scale") not in (None, 1) or given.get("long_side") is not None or given.get("size") is not None
        )

    @property
    def resized(self) -> dict[str, Any]:
        """The settings by which `prepare` resized the images, without those that have no effect."""
        given = self.header.settings
        found = {name: given[name] for name in RESIZING if given.get(name) is not None}
        return found | ({"filter": given["filter"]} if given.get("filter", "bilinear") != "bilinear" else {})

    def evaluation_image(self, image: str) -> np.ndarray:
        """(H',W',B) u8 at the size to evaluate at."""
        if self.originals is not None:
            return self.originals.image(image, self.evaluation_sizes[image])
        return self.stored(image, "evaluation_images", self.evaluation_sizes[image])

    def stored(self, image: str, folder: str, size: Size) -> np.ndarray:
        """(H,W,B) u8 from this file or the one that it names; BadInput if it has other sides there than ``size``."""
        path = f"{folder}/{image}"
        if self.image_files is None:
            return self.read(path)
        file = self.image_files.of(image)
        pixels = file.read(path)
        if pixels.shape != (*size, self.bands):
            raise file.invalid(path, f"has other sides than in {self.path}")
        return pixels

    def evaluation_mask(self, image: str) -> np.ndarray:
        """(H',W') u8 ground truth at the size to evaluate at, 255 = void."""
        return self.read(f"evaluation_masks/{image}")

    def vertices(self, image: str, grid: Size | None = None) -> np.ndarray | None:
        """(V,2) i32 (y,x) vertices of the image's polygons, on ``grid`` if given.

        None if the dataset was prepared without polygons.
        """
        if f"polygons/{image}" not in self:
            return None
        points = self.read(f"polygons/{image}")
        return points if grid is None else points * np.array(grid) // np.array(self.sizes[image])
