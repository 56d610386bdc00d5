"""What `alseg init` does about images that are too large: tiles instead of the images, and how these are split."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.datasets.survey import area, told_size
from stages.datasets.tiles import Tiles, grid_boxes
from stages.images.rasters import MOST_AT_ONCE, needs_windows
from stages.pixels.grids import Size

CPU_TILE, GPU_TILE = 320, 512
WANTED_BLOCKS = 30  # that a few images are divided into
FEW = 10  # images that are not divided as a whole
UNDIVIDED = "all"  # the split of images whose blocks are divided


@dataclass(frozen=True)
class TilePlan:
    """Tiles of ``side`` pixels; ``block``: n x n of them stay together; ``shares`` of the tiles in each split."""

    side: int
    block: int | None = None
    shares: Mapping[str, float] | None = None

    def lines(self) -> list[str]:
        """The lines of the description."""
        block = f"block = {self.block}  # n x n tiles go to one split, so that neighbours do not end up in two"
        lines = ["", "[tiles]", f"size = {self.side}  # pixels of the original files; tiles without data are left out"]
        lines += [block] if self.block is not None else []
        if self.shares is not None:
            shares = ", ".join(f"{name} = {share:g}" for name, share in self.shares.items() if share)
            lines += ["", "[division]", f'split = "{UNDIVIDED}"', f"shares = {{ {shares} }}"]
        return lines


def tile_side(
    sizes: Mapping[str, Size], tile: int | None, long_side: int | None, device: str
) -> tuple[int | None, str]:
    """The side of tiles, and why, in words; None if images are used whole."""
    if tile is not None:
        return tile, f"images are cut into tiles of {tile} pixels"
    name, largest = max(sizes.items(), key=lambda item: (needs_windows(Path(item[0])), area(item[1])))
    if not needs_windows(Path(name)) and (long_side is not None or area(largest) <= MOST_AT_ONCE):
        return None, ""
    side = GPU_TILE if device == "cuda" else CPU_TILE
    return side, (
        f"images are cut into tiles of {side} pixels, because {name} is too large to be read whole "
        f"({told_size(largest)}); --tile changes their size, --long-side resizes images instead"
    )


def by_blocks(side: int, sizes: Sequence[Size], shares: Mapping[str, float]) -> tuple[TilePlan, str]:
    """How the tiles of a few images are divided, and the same in words."""
    tiles = sum(len(grid_boxes(size, Tiles(size=(side, side)))) for size in sizes)
    block = max(1, math.isqrt(tiles // WANTED_BLOCKS))
    told = ", ".join(f"{share:g} {name}" for name, share in shares.items() if share)
    return TilePlan(
        side, block, shares
    ), f"splits drawn at random by blocks of {block} x {block} tiles: {told} (--shares changes them)"
