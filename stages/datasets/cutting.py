"""From files to tiles: which tiles of large images have data, their splits, and their pixels."""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from stages.artifacts.tiling import Tiling
from stages.datasets.decode import LoadedSample
from stages.datasets.description import DatasetDescription
from stages.datasets.division import divide_groups
from stages.datasets.files import Sample
from stages.datasets.mask_files import (
    EMPTY_NOTE,
    ClassLookup,
    Encoding,
    StoredMask,
    decoded,
    stored_mask,
    values_in,
)
from stages.datasets.parts import part_values, read_part
from stages.datasets.tiles import Block, Tile, Tiles, cut_between_splits, grid_boxes
from stages.images.image_files import image_file
from stages.images.rasters import Raster, has_windows, map_grid_of, open_raster
from stages.images.reading import AS_SHOWN, Reading
from stages.pixels.boxes import Box
from stages.pixels.grids import Size
from stages.pixels.void import VOID
from stages.runtime.console import Progress, say
from stages.runtime.errors import BadInput
from stages.runtime.randomness import stream_key


def cut(samples: Sequence[Sample], description: DatasetDescription, seed: int) -> list[Sample]:
    """The tiles with data of the files of ``samples``, sorted by (place of the split in the description, id).

    If the description has a division, blocks of tiles or whole images are divided by their number of tiles. Reads all
    pixels of the images once. Raises BadInput with all faults of their files.
    """
    tiles, division = description.tiles, description.division
    assert tiles is not None
    grids = dict(zip((sample.id for sample in samples), map_grids(samples, tiles), strict=True))
    divided = {sample.id: division is not None and sample.split == division.split for sample in samples}
    groups = Counter(
        group_name(id, block) for id, grid in grids.items() if divided[id] for block in grid.blocks.values()
    )
    drawn: dict[str, str] = {}
    if division is not None:
        drawn = divide_groups(groups, division.shares, lambda name: (stream_key(seed, "division", name), name))
    found = []
    for sample in samples:
        grid = grids[sample.id]
        if divided[sample.id]:
            splits = {block: drawn[group_name(sample.id, block)] for block in set(grid.blocks.values())}
        else:
            splits = dict.fromkeys(grid.blocks.values(), sample.split)
        found += tiles_of(sample, grid, splits, tiles)
    total = sum(len(grid.boxes) for grid in grids.values())
    if not found:
        raise BadInput(f"None of {total} tiles has data on {tiles.keep:.0%} of its pixels. Lower tiles.keep.")
    say(f"{len(found)} tiles with data of {total} in {len(samples)} images")
    places = description.split_names
    return sorted(found, key=lambda sample: (places.index(sample.split), sample.id))


def group_name(source: str, block: Block) -> str:
    return f"{source}/{block[0]}/{block[1]}"


@dataclass(frozen=True)
class Grid:
    """The tiles of an image of ``size``: ``boxes`` has all of them, ``blocks`` those with data, and their block."""

    size: Size
    boxes: dict[Box, Block]
    blocks: dict[Box, Block]


def map_grids(samples: Sequence[Sample], tiles: Tiles) -> list[Grid]:
    """The tiles of each image; BadInput with the faults of all files."""
    found, faults = [], []
    for sample in samples:
        try:
            with OpenFiles() as files:
                raster = files.image(sample.image)
                if sample.mask is not None:
                    require_same_size(raster, sample.mask)
                boxes = grid_boxes(raster.size, tiles)
                found.append(Grid(raster.size, boxes, blocks_with_data(raster, boxes, tiles.keep)))
        except BadInput as error:
            faults += error.faults
    if faults:
        raise BadInput(faults)
    return found


def blocks_with_data(raster: Raster, boxes: dict[Box, Block], keep: float) -> dict[Box, Block]:
    """Those of ``boxes`` that have data."""
    found = {}
    with Progress(f"looking for data in {raster.path.name}", len(boxes)) as bar:
        for box, block in boxes.items():
            if has_data(raster, box, keep):
                found[box] = block
            bar.advance()
    return found


def require_rasters(samples: Sequence[Sample]) -> list[str]:
    """The faults of the files, found without decoding them."""
    faults = []
    for sample in samples:
        try:
            with OpenFiles() as files:
                if sample.mask is not None:
                    require_same_size(files.image(sample.image), sample.mask)
        except BadInput as error:
            faults += error.faults
    return faults


def tiling_of(samples: Sequence[Sample]) -> Tiling:
    """Where tiles lie in the files they are cut from."""
    tiles = [sample.tile for sample in samples if sample.tile is not None]
    files = {sample.tile.source: sample.image for sample in samples if sample.tile is not None}
    sizes = {tile.source: tile.size for tile in tiles}
    places = {source: place for place, source in enumerate(sorted(files))}
    return Tiling(
        list(places),
        [files[source].name for source in places],
        [sizes[source] for source in places],
        [map_grid_of(files[source]) for source in places],
        np.array([places[tile.source] for tile in tiles], dtype=np.int32),
        np.array([tile.box for tile in tiles], dtype=np.int32).reshape(-1, 4),
    )


def tiles_of(sample: Sample, grid: Grid, splits: dict[Block, str], tiles: Tiles) -> list[Sample]:
    """The tiles of one image; those that are cut because of a neighbour's split must still have data."""
    found = []
    remains = cut_between_splits(grid.boxes, splits)
    with OpenFiles() as files:
        for box, block in grid.blocks.items():
            rest = remains.get(box)
            if rest is None or (rest != box and not has_data(files.image(sample.image), rest, tiles.keep)):
                continue
            tile = Tile(sample.id, grid.size, rest)
            found.append(replace(sample, id=tile.id, split=splits[block], tile=tile))
    return found


def has_data(raster: Raster, box: Box, keep: float) -> bool:
    """Whether the share ``keep`` of the pixels of ``box`` have data, and these are not all of one colour."""
    pixels = raster.pixels(box)
    found = raster.with_data(box, pixels)
    if not found.any() or found.mean() < keep:
        return False
    inside = pixels[found][:, raster.colour_bands]
    return bool((inside != inside[0]).any())


def require_same_size(raster: Raster, mask: Path) -> None:
    """BadInput unless the mask has the size of the image; neither is decoded."""
    if has_windows(mask):
        with open_raster(mask) as opened:
            height, width = opened.size
    else:
        with image_file(mask) as image:
            width, height = image.size
    if (height, width) != raster.size:
        raise BadInput(
            f"{mask} ({width}x{height}) and {raster.path} ({raster.size[1]}x{raster.size[0]}) differ in size. Use "
            "files of the same width and height."
        )


@dataclass
class OpenFiles:
    """The image and the mask that were read last, which stay open for the next tile."""

    stack: ExitStack = field(default_factory=ExitStack)
    opened: dict[Path, Raster] = field(default_factory=dict)
    whole_mask: tuple[Path, StoredMask] | None = None

    def image(self, path: Path) -> Raster:
        return self.raster(path)

    def mask(self, path: Path, box: Box, lookup: ClassLookup) -> StoredMask:
        """The part ``box`` of a mask as `stored_mask` returns it; BadInput for what that refuses."""
        if has_windows(path):
            raster = self.raster(path)
            return class_values(raster.pixels(box), raster, lookup.encoding)
        if self.whole_mask is None or self.whole_mask[0] != path:
            self.whole_mask = None  # two at once would not fit where one does
            self.whole_mask = path, stored_mask(path, lookup.encoding, lookup.binarise is not None)
        _, whole = self.whole_mask
        return StoredMask(whole.values[box.rows, box.columns], whole.note)

    def raster(self, path: Path) -> Raster:
        if path not in self.opened:
            if len(self.opened) > 1:
                self.close()
            self.opened[path] = self.stack.enter_context(open_raster(path))
        return self.opened[path]

    def close(self) -> None:
        self.opened.clear()
        self.stack.close()

    def __enter__(self) -> "OpenFiles":
        return self

    def __exit__(self, *details: object) -> None:
        self.close()


def class_values(pixels: np.ndarray, raster: Raster, encoding: Encoding) -> StoredMask:
    """All bands (h,w,B) of a part of a mask as its class values or colours."""
    if encoding == "color" and raster.palette is not None:
        return StoredMask(raster.palette[pixels[..., 0]])
    return values_in(raster.path, pixels[..., raster.colour_bands], encoding)


def tile_values(sample: Sample, reading: Reading, files: OpenFiles) -> tuple[np.ndarray, float | None]:
    """The bands (h,w,B) of a tile before its levels are applied, and the value of pixels without data."""
    assert sample.tile is not None
    raster = files.image(sample.image)
    return part_values(raster.pixels(sample.tile.box), raster, reading), raster.nodata


def load_tile(
    sample: Sample, lookup: ClassLookup, files: OpenFiles, reading: Reading = AS_SHOWN
) -> LoadedSample | list[str]:
    """A tile decoded, or its faults as sentences; its mask is void where the image has no data."""
    assert sample.tile is not None
    note = ""
    try:
        box, raster = sample.tile.box, files.image(sample.image)
        pixels = raster.pixels(box)
        image, mask, nothing = read_part(pixels, raster, reading), None, ~raster.with_data(box, pixels)
        if sample.mask is not None:
            mask, note = decoded(files.mask(sample.mask, box, lookup), lookup, f"{sample.mask} ({sample.id})")
            mask[nothing] = VOID
    except BadInput as error:
        return error.faults
    note = "" if note == EMPTY_NOTE else note
    return LoadedSample(image, mask, note=note, without_data=nothing if nothing.any() else None)
