"""Windows over what is too large to be predicted whole: over a large file, and over the tiles of an original file."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.artifacts.dataset import Dataset
from stages.datasets.parts import read_part
from stages.datasets.tiles import Tiles, tile_starts
from stages.images.rasters import Raster
from stages.images.reading import AS_SHOWN, Reading, displayed
from stages.pixels.boxes import Box, fill_reduced
from stages.pixels.grids import Size
from stages.pixels.resize import resize_image, target_size
from stages.predicting.mosaics import Prediction, even_starts
from stages.settings.common import Filter

Network = Callable[[Tensor], Tensor]
"""(1,B,h,w) u8 -> (1,C,h,w) f32 probabilities."""
MULTIPLE = 32  # of which the sides of windows are, as networks reduce images by it


@dataclass(frozen=True)
class FileWindows:
    """Windows of at most ``longest`` pixels of a large file; the network sees them resized by ``scale``."""

    raster: Raster
    network: Network
    longest: int
    share: float  # of a window that it has in common with the next
    scale: float
    reading: Reading = AS_SHOWN
    way: Filter = "bilinear"  # of resizing

    @property
    def size(self) -> Size:
        return self.raster.size

    @cached_property
    def overlap(self) -> int:
        return int(self.longest * self.share)

    @cached_property
    def grid(self) -> list[tuple[list[int], int]]:
        return [even_starts(length, self.longest, self.overlap, MULTIPLE) for length in self.size]

    @property
    def tops(self) -> list[int]:
        return self.grid[0][0]

    @property
    def lefts(self) -> list[int]:
        return self.grid[1][0]

    @property
    def side(self) -> Size:
        return self.grid[0][1], self.grid[1][1]

    def predict(self, row: int, column: int) -> Prediction | None:
        box = Box(self.tops[row], self.lefts[column], *self.side)
        pixels = self.raster.pixels(box)
        with_data = self.raster.with_data(box, pixels)
        if not with_data.any():
            return None
        seen = target_size(*self.side, self.scale)
        probabilities = of_resized(self.network, read_part(pixels, self.raster, self.reading), seen, way=self.way)
        return Prediction(probabilities, torch.from_numpy(with_data))

    def reduced(self, size: Size) -> np.ndarray:
        """The image made smaller, (h,w,3) u8."""
        return displayed(read_part(self.raster.reduced(size), self.raster, self.reading), self.reading)


@dataclass(frozen=True)
class TileWindows:
    """The tiles ``ids`` of the original file ``source`` of a dataset; tiles that are not among them have no data."""

    dataset: Dataset
    source: str
    ids: Sequence[str]
    network: Network
    number: int  # of classes that the network predicts

    @property
    def size(self) -> Size:
        assert self.dataset.tiling is not None
        return self.dataset.tiling.sizes[self.dataset.tiling.places[self.source]]

    @cached_property
    def tiles(self) -> Tiles:
        return Tiles.model_validate(json.loads(self.dataset.attributes["tiles"]))

    @property
    def overlap(self) -> int:
        return self.tiles.overlap

    @cached_property
    def tops(self) -> list[int]:
        return tile_starts(self.size[0], self.tiles.size[0], self.overlap)

    @cached_property
    def lefts(self) -> list[int]:
        return tile_starts(self.size[1], self.tiles.size[1], self.overlap)

    @property
    def side(self) -> Size:
        (height, width), (most_height, most_width) = self.size, self.tiles.size
        return min(height, most_height), min(width, most_width)

    @cached_property
    def places(self) -> dict[tuple[int, int], tuple[str, Box]]:
        """The tiles and their boxes by their first row and column."""
        tiling = self.dataset.tiling
        assert tiling is not None
        boxes = {image: tiling.box(self.dataset.places[image]) for image in self.ids}
        return {(box.y, box.x): (image, box) for image, box in boxes.items()}

    def predict(self, row: int, column: int) -> Prediction:
        image, box = self.places.get((self.tops[row], self.lefts[column]), (None, None))
        if image is None or box is None:
            return Prediction(torch.zeros(self.number, 0, 0))
        pixels = self.dataset.image(image)
        found = of_resized(self.network, pixels, (pixels.shape[0], pixels.shape[1]), (box.height, box.width))
        return Prediction(found)

    def reduced(self, size: Size) -> np.ndarray:
        """The image made smaller, (h,w,3) u8; black where no tile is."""
        small = np.zeros((*size, 3), dtype=np.uint8)
        for image, box in self.places.values():
            fill_reduced(small, self.dataset.rgb(image, (box.height, box.width)), box, self.size)
        return small


def of_resized(
    network: Network, image: np.ndarray, seen: Size, size: Size | None = None, way: Filter = "bilinear"
) -> Tensor:
    """(C,h,w) f32 probabilities of an image (H,W,B) u8 seen at the size ``seen``, at its own size or at ``size``."""
    size = size or (image.shape[0], image.shape[1])
    pixels = torch.from_numpy(np.array(resize_image(image, *seen, way))).permute(2, 0, 1)[None]
    found = network(pixels).cpu()
    if found.shape[-2:] != torch.Size(size):
        found = F.interpolate(found, size, mode="bilinear", align_corners=False)
    return found[0]
